"""Losses: what they are by the formula, and that unknown pixels change nothing."""

import numpy as np
import pytest
import torch
from torch import Tensor

from slideloom.models.heads import HEADS, Head
from slideloom.models.heads.losses import (
    centre_loss,
    distance_loss,
    exclusive_label_loss,
    exclusive_loss,
    flow_loss,
    hover_loss,
    overlapping_label_loss,
    overlapping_loss,
)
from slideloom.models.spec import ModelSpec, Task
from tests.makers.tile_truths import discs, head_spec, truth_of

KINDS = [(task, kind) for task, kinds in HEADS.items() for kind in kinds]
DENSE = [(task, kind) for task, kind in KINDS if task != "classification"]
SPEC = head_spec("semantic", "exclusive", classes=2)
ALL = torch.ones(1, 1, 4, dtype=torch.bool)


def sample(task: Task, kind: str) -> tuple[Head, ModelSpec, Tensor]:
    """The head, a spec of two classes, and targets of a batch of two tiles."""
    head, spec = HEADS[task][kind], head_spec(task, kind, classes=2)
    tiles = [
        truth_of(discs((12, 10), (12, 23), (30, 30)), np.array([0, 1, 0], np.int16), classes=2),
        truth_of(discs((20, 20)), np.array([1], np.int16), classes=2),
    ]
    return head, spec, torch.stack([torch.from_numpy(head.targets(t, spec)) for t in tiles])


def random_logits(head: Head, spec: ModelSpec, targets: Tensor, *, scale: float = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (len(targets), head.out_channels(spec), *targets.shape[2:])
    return (scale * torch.randn(shape, generator=generator)).requires_grad_()


def total(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


@pytest.mark.parametrize(("task", "kind"), KINDS)
def test_parts_are_finite_numbers_with_a_gradient(task: Task, kind: str) -> None:
    head, spec, targets = sample(task, kind)
    known = torch.ones(2, 48, 48, dtype=torch.bool)
    for scale in (0.0, 1.0, 1e4):
        logits = random_logits(head, spec, targets, scale=scale)
        parts = head.loss(logits, targets, known=known, spec=spec)
        assert all(part.shape == () and part >= 0 for part in parts.values())
        total(parts).backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert bool(torch.isfinite(logits.grad).all())
        assert float(logits.grad.abs().max()) < 1e3


@pytest.mark.parametrize(("task", "kind"), KINDS)
def test_a_batch_of_which_nothing_is_known_asks_for_nothing(task: Task, kind: str) -> None:
    head, spec, targets = sample(task, kind)
    logits = random_logits(head, spec, targets)
    known = torch.zeros(2, 48, 48, dtype=torch.bool)
    loss = total(head.loss(logits, targets, known=known, spec=spec))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(("task", "kind"), DENSE)
def test_unknown_pixels_change_nothing(task: Task, kind: str) -> None:
    head, spec, targets = sample(task, kind)
    known = torch.ones(2, 48, 48, dtype=torch.bool)
    known[0, 8:20, 5:30] = False
    logits = random_logits(head, spec, targets)
    loss = total(head.loss(logits, targets, known=known, spec=spec))
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not (logits.grad * ~known[:, None]).any()
    assert bool((logits.grad * known[:, None]).any())
    other = torch.where(known[:, None], logits.detach(), 7.0)
    spoilt = torch.where(known[:, None], targets, 1.0)
    torch.testing.assert_close(total(head.loss(other, spoilt, known=known, spec=spec)), loss)


@pytest.mark.parametrize(("task", "kind"), [k for k in KINDS if k[0] == "classification"])
def test_unknown_tiles_change_nothing(task: Task, kind: str) -> None:
    head, spec, targets = sample(task, kind)
    known = torch.ones(2, 48, 48, dtype=torch.bool)
    known[0] = False
    logits = random_logits(head, spec, targets)
    parts = head.loss(logits, targets, known=known, spec=spec)
    alone = head.loss(logits[1:], targets[1:], known=known[1:], spec=spec)
    torch.testing.assert_close(total(parts), total(alone))


def test_exclusive_by_the_formula() -> None:
    # Chances of the right channel: 1/2, 1/4, 1/4, 1/2; the channels are background, a, b.
    chance = torch.tensor(
        [[0.5, 0.5, 0.5, 0.25], [0.25, 0.25, 0.25, 0.25], [0.25, 0.25, 0.25, 0.5]]
    )
    parts = exclusive_loss(chance.log().view(1, 3, 1, 4), row(0, 1, 1, 2), known=ALL, spec=SPEC)
    assert parts["cross_entropy"].item() == pytest.approx(1.5 * np.log(2))
    a = (2 * 0.5 + 1) / (1.0 + 2 + 1)
    b = (2 * 0.5 + 1) / (1.25 + 1 + 1)
    assert parts["dice"].item() == pytest.approx(1 - (a + b) / 2)


def test_a_class_that_is_not_there_has_no_dice() -> None:
    logits = torch.zeros(1, 3, 1, 4)
    both = exclusive_loss(logits, row(0, 1, 1, 0), known=ALL, spec=SPEC)["dice"]
    alone = head_spec("semantic", "exclusive", classes=1)
    less = torch.tensor([2 / 3, 1 / 3]).log().view(1, 2, 1, 1).expand(1, 2, 1, 4)
    torch.testing.assert_close(
        both, exclusive_loss(less, row(0, 1, 1, 0), known=ALL, spec=alone)["dice"]
    )
    assert exclusive_loss(logits, row(0, 0, 0, 0), known=ALL, spec=SPEC)["dice"] == 0


def test_overlapping_by_the_formula() -> None:
    logits = torch.zeros(1, 2, 1, 4)
    truth = torch.cat([row(1, 1, 0, 0), row(0, 1, 0, 0)], dim=1)
    parts = overlapping_loss(logits, truth, known=ALL, spec=SPEC)
    assert parts["cross_entropy"].item() == pytest.approx(np.log(2))
    assert parts["dice"].item() == pytest.approx(1 - ((2 + 1) / 5 + (1 + 1) / 4) / 2)


def test_distance_counts_twice_inside() -> None:
    spec = head_spec("instance", "distance")
    targets = torch.cat([row(0, 1, 1, 0), row(0, 0.5, 1, 0), row(1, 1, 3, 1)], dim=1)
    parts = distance_loss(torch.zeros(1, 2, 1, 4), targets, known=ALL, spec=spec)
    assert parts["cross_entropy"].item() == pytest.approx(np.log(2) * 6 / 4)
    assert parts["distance"].item() == pytest.approx(np.log(2) * (1 + 2 + 6 + 1) / 4)


def test_flows_are_compared_by_direction() -> None:
    spec = head_spec("instance", "flows")
    targets = torch.cat([row(0, 1, 1, 1), row(0, 1, 0, 0), row(0, 0, 1, 0)], dim=1)
    logits = torch.cat([row(0, 0, 0, 0), row(9, 90, 90, 9), row(9, 0, 0, 9)], dim=1)
    # Right, and at a right angle; the centre has no direction.
    parts = flow_loss(logits, targets, known=ALL, spec=spec)
    assert parts["direction"].item() == pytest.approx((0 + 1) / 2, abs=1e-5)


def test_hover_charges_for_a_missing_jump() -> None:
    spec = head_spec("instance", "hover")
    labels = np.zeros((16, 16), np.int32)
    labels[4:12, 2:8], labels[4:12, 8:14] = 1, 2
    truth = truth_of(labels, np.zeros(2, np.int16), classes=1)
    targets = torch.from_numpy(HEADS["instance"]["hover"].targets(truth, spec))[None]
    known = torch.ones(1, 16, 16, dtype=torch.bool)
    right = torch.cat([10 * targets[:, :1], torch.atanh(targets[:, 1:] * 0.99999)], dim=1)
    smooth = right.clone()
    smooth[:, 1, 4:12, 2:14] = torch.linspace(-3, 3, 12)
    good = hover_loss(right, targets, known=known, spec=spec)
    bad = hover_loss(smooth, targets, known=known, spec=spec)
    assert good["maps"] < 1e-6
    assert good["slopes"] < 1e-6
    assert bad["slopes"] > 0.5


def test_slopes_are_taken_along_each_maps_own_axis() -> None:
    spec = head_spec("instance", "hover")
    known = torch.ones(1, 6, 6, dtype=torch.bool)
    targets = torch.zeros(1, 3, 6, 6)
    targets[:, 0] = 1
    ramp = torch.atanh(torch.linspace(-0.5, 0.5, 6)).expand(6, 6)
    level = torch.zeros(6, 6)
    parts = [
        hover_loss(torch.stack([level, across, down])[None], targets, known=known, spec=spec)
        for across, down in ((ramp, level), (ramp.T, level), (level, ramp.T), (level, ramp))
    ]
    # Twice the rise of 0.2 per pixel in the middle, half of that at both edges.
    wanted = (4 * 0.4**2 + 2 * 0.2**2) / 6
    assert [p["slopes"].item() for p in parts] == pytest.approx([wanted, 0, wanted, 0], abs=1e-6)


def test_centres_by_the_formula() -> None:
    spec = head_spec("detection", "centres")
    targets = torch.cat([row(0, 0.5, 1, 0), row(0, 0, 2, 0), row(0, 0, 1, 0)], dim=1)
    logits = torch.zeros(1, 3, 1, 4)
    parts = centre_loss(logits, targets, known=ALL, spec=spec)
    assert parts["centres"].item() == pytest.approx(0.25 * np.log(2) * (1 + 1 / 16 + 1 + 1))
    assert parts["size"].item() == pytest.approx((2 - np.log(2)) + (1 - np.log(2)))


def test_a_tile_without_centres_still_learns_that() -> None:
    spec = head_spec("detection", "centres")
    logits = torch.zeros(1, 3, 1, 4, requires_grad=True)
    parts = centre_loss(logits, torch.zeros(1, 3, 1, 4), known=ALL, spec=spec)
    assert parts["centres"].item() == pytest.approx(0.25 * np.log(2) * 4)
    assert parts["size"] == 0


def test_labels_by_the_formula() -> None:
    known = torch.ones(3, 8, 8, dtype=torch.bool)
    logits = torch.tensor([[0.0, np.log(3)], [0.0, np.log(3)], [5.0, 1.0]]).view(3, 2, 1, 1)
    # One class; two; none, which says nothing.
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]).view(3, 2, 1, 1)
    part = exclusive_label_loss(logits, targets, known=known, spec=SPEC)["cross_entropy"]
    single, both = -np.log(0.75), -(np.log(0.25) + np.log(0.75)) / 2
    assert part.item() == pytest.approx((single + both) / 2)
    part = overlapping_label_loss(logits, targets, known=known, spec=SPEC)["cross_entropy"]
    chance = 1 / (1 + np.exp(-logits.flatten(1).double().numpy()))
    wanted = np.where(targets.flatten(1).numpy() > 0, chance, 1 - chance)
    assert part.item() == pytest.approx(-np.log(wanted).mean(), rel=1e-5)
