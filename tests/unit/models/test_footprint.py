"""What a network takes, without its weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slideloom.errors import SettingsError
from slideloom.models.architectures import build_network
from slideloom.models.catalog import list_models
from slideloom.models.footprint import network_footprint
from slideloom.models.spec import Architecture, ModelSpec

(NUCLEI,) = (item for item in list_models() if item.name == "nuclei")


def test_weights_are_those_of_the_built_network() -> None:
    built = sum(tensor.nbytes for tensor in build_network(NUCLEI).state_dict().values())
    assert network_footprint(NUCLEI).weights == built


def test_a_tile_takes_its_widest_moment() -> None:
    small = NUCLEI.model_copy(update={"tile_px": 128})
    large = NUCLEI.model_copy(update={"tile_px": 256})
    first, second = network_footprint(small).tile, network_footprint(large).tile

    assert second == pytest.approx(4 * first, rel=0.05)
    # One convolution of full size: its input and its output are alive together.
    assert first > 128**2 * 4 * (16 + 16)


def test_nothing_is_left_alive_from_one_layer_to_the_next() -> None:
    """The peak lies far below the sum of all layers."""
    shape = NUCLEI.model_copy(update={"tile_px": 128})
    network = build_network(shape).eval()
    made: list[int] = []

    def note(layer: nn.Module, inputs: object, output: object) -> None:
        del layer, inputs
        if isinstance(output, torch.Tensor):
            made.append(output.nbytes)

    for layer in network.modules():
        layer.register_forward_hook(note)
    with torch.inference_mode():
        network(torch.zeros((1, 3, 128, 128)))

    assert network_footprint(shape).tile < sum(made) / 4


def test_what_is_no_network_takes_nothing() -> None:
    footprint = network_footprint(NUCLEI.model_copy(update={"architecture": None}))
    assert (footprint.weights, footprint.tile) == (0, 0)


def test_networks_that_look_at_values_are_built_all_the_same() -> None:
    architecture = Architecture(name="Segformer", encoder="mit_b0")
    spec = ModelSpec.model_validate(
        NUCLEI.model_dump() | {"architecture": architecture.model_dump(), "tile_px": 128}
    )
    footprint = network_footprint(spec)
    assert footprint.weights > 10**7
    assert 0 < footprint.tile < 10**9


def test_what_cannot_be_built_is_refused() -> None:
    architecture = Architecture(name="NoSuchNet", encoder="none")
    with pytest.raises(SettingsError, match="NoSuchNet"):
        network_footprint(NUCLEI.model_copy(update={"architecture": architecture}))
