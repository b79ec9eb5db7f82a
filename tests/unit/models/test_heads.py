"""Channels and activations of each task."""

import pytest
import torch

from slideloom.errors import SettingsError
from slideloom.models.heads import HEADS, head_of
from slideloom.models.spec import Decode, ModelClass, ModelSpec
from slideloom.postprocess.decoding import DECODES, decode

THREE = tuple(ModelClass(name=name, color=(1, 2, 3)) for name in "abc")


def semantic(spec: ModelSpec, *, overlapping: bool) -> ModelSpec:
    changes = {"task": "semantic", "decode": None, "classes": THREE, "overlapping": overlapping}
    return spec.model_copy(update=changes)


def instance(spec: ModelSpec, name: str) -> ModelSpec:
    return spec.model_copy(update={"classes": THREE, "decode": Decode(name=name)})


def test_exclusive_classes_share_one_probability(spec: ModelSpec) -> None:
    spec = semantic(spec, overlapping=False)
    head = head_of(spec)
    assert head.out_channels(spec) == 4
    logits = torch.randn(2, 4, 5, 6)
    logits[:, 0] = 50.0
    maps = head.activate(logits, spec)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, 5, 6))
    assert bool((maps[:, 0] > 0.999).all())


def test_overlapping_classes_are_independent(spec: ModelSpec) -> None:
    spec = semantic(spec, overlapping=True)
    head = head_of(spec)
    assert head.out_channels(spec) == 3
    maps = head.activate(torch.full((1, 3, 2, 2), 9.0), spec)
    assert bool((maps > 0.99).all())


def test_distance_adds_a_sigmoid(spec: ModelSpec) -> None:
    spec = instance(spec, "distance")
    head = head_of(spec)
    assert head.out_channels(spec) == 4
    assert bool((head.activate(torch.zeros(1, 4, 2, 2), spec) == 0.5).all())


def test_components_add_the_background(spec: ModelSpec) -> None:
    spec = instance(spec, "components")
    head = head_of(spec)
    assert head.out_channels(spec) == 4
    maps = head.activate(torch.randn(1, 4, 2, 2), spec)
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(1, 2, 2))


def test_hover_adds_two_maps_from_minus_one_to_one(spec: ModelSpec) -> None:
    spec = instance(spec, "hover")
    head = head_of(spec)
    assert head.out_channels(spec) == 5
    logits = torch.tensor([-50.0, 0.0, 50.0, -50.0, 50.0]).view(1, 5, 1, 1)
    maps = head.activate(logits, spec)
    torch.testing.assert_close(maps.ravel(), torch.tensor([0.0, 0.5, 1.0, -1.0, 1.0]))


def test_flows_add_a_direction(spec: ModelSpec) -> None:
    spec = instance(spec, "flows")
    head = head_of(spec)
    assert head.out_channels(spec) == 5
    logits = torch.tensor([0.0, 0.0, 0.0, -30.0, 40.0]).view(1, 5, 1, 1)
    maps = head.activate(logits, spec)
    torch.testing.assert_close(maps.ravel(), torch.tensor([0.5, 0.5, 0.5, -0.6, 0.8]))
    assert bool(torch.isfinite(head.activate(torch.zeros(1, 5, 1, 1), spec)).all())


@pytest.mark.parametrize("name", HEADS["instance"])
def test_a_decode_takes_what_its_head_gives(spec: ModelSpec, name: str) -> None:
    spec = instance(spec, name)
    head = head_of(spec)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(1, head.out_channels(spec), 24, 24, generator=generator)
    maps = head.activate(logits, spec)[0].permute(1, 2, 0).numpy()
    found = decode(maps, name=name, settings={"min_area_px": 1})
    assert set(found.class_id.tolist()) <= {0, 1, 2}
    assert len(found.score) > 0


def test_a_semantic_model_has_the_same_head_with_and_without_a_decode(spec: ModelSpec) -> None:
    plain = spec.model_copy(update={"task": "semantic", "decode": None})
    refined = plain.model_copy(update={"decode": Decode(name="dense_crf")})
    assert head_of(refined) is head_of(plain)


@pytest.mark.parametrize(
    ("task", "known"), [("instance", "components, dist"), ("detection", "centres")]
)
def test_decode_that_cannot_read_the_maps(spec: ModelSpec, task: str, known: str) -> None:
    asked = spec.model_copy(update={"task": task, "decode": Decode(name="labels")})
    with pytest.raises(SettingsError, match=f"cannot be read as 'labels': use one of {known}"):
        head_of(asked)


def test_heads_name_decodes_that_exist() -> None:
    assert set(HEADS["instance"]) <= set(DECODES)
