"""Channels and activations of each task."""

import pytest
import torch

from slideloom.errors import SettingsError
from slideloom.models.heads import HEADS, head_of
from slideloom.models.spec import Decode, ModelClass, ModelSpec
from slideloom.postprocess.decoding import DECODES

THREE = tuple(ModelClass(name=name, color=(1, 2, 3)) for name in "abc")


def semantic(spec: ModelSpec, *, overlapping: bool) -> ModelSpec:
    changes = {"task": "semantic", "decode": None, "classes": THREE, "overlapping": overlapping}
    return spec.model_copy(update=changes)


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


def test_instance_adds_the_distance(spec: ModelSpec) -> None:
    spec = spec.model_copy(update={"classes": THREE})
    head = head_of(spec)
    assert head.out_channels(spec) == 4
    assert bool((head.activate(torch.zeros(1, 4, 2, 2), spec) == 0.5).all())


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_task_without_head(spec: ModelSpec, task: str) -> None:
    with pytest.raises(SettingsError, match=f"{task}.*use one of semantic, instance"):
        head_of(spec.model_copy(update={"task": task}))


def test_decode_that_cannot_read_the_maps(spec: ModelSpec) -> None:
    with pytest.raises(SettingsError, match=r"'labels' cannot read: use one of \['distance'\]"):
        head_of(spec.model_copy(update={"decode": Decode(name="labels")}))


def test_heads_name_decodes_that_exist() -> None:
    named = {name for head in HEADS.values() for name in head.decodes}
    assert named <= set(DECODES)
