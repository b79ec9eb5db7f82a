"""Weights of another program under timm's names: the same layers in the same order."""

import pytest
import timm
import torch

from benchmarks.examples_encoder import ENCODER, renamed


def test_every_layer_gets_the_name_that_timm_gives_it() -> None:
    layers = timm.create_model(ENCODER).state_dict()
    others = {f"_layer.{place}": value + 1 for place, value in enumerate(layers.values())}
    found = renamed(others)
    assert list(found) == list(layers)
    for name, value in layers.items():
        assert torch.equal(found[name], value + 1)


def test_other_layers_are_refused() -> None:
    layers = timm.create_model(ENCODER).state_dict()
    first = next(iter(layers))
    with pytest.raises(SystemExit, match="does not hold the layers"):
        renamed({**layers, first: torch.zeros(1)})
