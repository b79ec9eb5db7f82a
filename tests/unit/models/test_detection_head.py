"""The head of detectors gives what the decode `centres` reads."""

import pytest
import torch
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.heads import head_of
from slideloom.models.spec import Decode, ModelClass, ModelSpec, Normalisation


def _spec(decode: str) -> ModelSpec:
    return ModelSpec(
        name="cells",
        task="detection",
        architecture=None,
        classes=(ModelClass(name="a", color=(1, 2, 3)), ModelClass(name="b", color=(4, 5, 6))),
        mpp=0.5,
        tile_px=64,
        halo_px=8,
        normalisation=Normalisation(mean=(0, 0, 0), std=(1, 1, 1)),
        decode=Decode(name=decode),
        licence="Apache-2.0",
        training_data="none",
    )


def test_heat_lies_between_0_and_1_and_sizes_are_positive() -> None:
    head = head_of(_spec("centres"))
    assert head.out_channels(_spec("centres")) == 4
    logits = torch.linspace(-8, 8, 5).view(1, 1, 1, 5).expand(1, 4, 1, 5)
    maps = head.activate(logits, _spec("centres"))
    torch.testing.assert_close(maps[:, :2], torch.sigmoid(logits[:, :2]))
    torch.testing.assert_close(maps[:, 2:], torch.log1p(torch.exp(logits[:, 2:])))


def test_a_network_cannot_give_rows_of_boxes() -> None:
    with pytest.raises(SettingsError, match="use one of centres"):
        head_of(_spec("boxes"))


def test_an_untrained_network_sees_hardly_any_centre() -> None:
    spec = _spec("centres")
    last = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        last.weight.zero_()
    sizes = last.bias[2:].clone() if last.bias is not None else None
    network = nn.Sequential(nn.Conv2d(3, 3, 1), last, nn.Identity())
    head_of(spec).begin(network, spec)
    maps = head_of(spec).activate(network(torch.rand(1, 3, 2, 2)), spec)
    torch.testing.assert_close(maps[:, :2], torch.full((1, 2, 2, 2), 0.01))
    assert last.bias is not None
    assert sizes is not None
    torch.testing.assert_close(last.bias[2:], sizes)


def test_a_network_without_such_a_layer_is_left_alone() -> None:
    spec = _spec("centres")
    network = nn.Conv2d(3, 4, 1, bias=False)
    before = network.weight.clone()
    head_of(spec).begin(network, spec)
    assert torch.equal(network.weight, before)
