"""Model specs: what cannot be run is refused when it is read."""

from typing import Any

import pytest
from pydantic import ValidationError

from slideloom.models.spec import ModelSpec

GOOD: dict[str, Any] = {
    "name": "spec",
    "task": "instance",
    "architecture": None,
    "classes": [{"name": "a", "color": [1, 2, 3]}],
    "mpp": 0.5,
    "tile_px": 256,
    "halo_px": 32,
    "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1]},
    "decode": {"name": "labels"},
    "licence": "CC0-1.0",
    "training_data": "none",
}


def test_a_spec_goes_through_json_unchanged() -> None:
    spec = ModelSpec.model_validate(GOOD)
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.core_px == 192


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"halo_px": 128}, "leaves no core"),
        ({"halo_px": 120}, "at least 1/8 of the tile"),
        ({"halo_px": 0}, "halo_px > 0"),
        ({"decode": None}, "needs decode"),
        ({"classes": [GOOD["classes"][0]] * 2}, "class names must differ"),
        ({"classes": []}, "at least 1"),
        ({"mpp": 0}, "greater than 0"),
        ({"task": "counting"}, "'semantic', 'classification', 'detection' or 'instance'"),
        ({"format": 2}, "Input should be 1"),
        ({"colour": "red"}, "not permitted"),
    ],
)
def test_a_spec_that_cannot_work_is_refused(change: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        ModelSpec.model_validate(GOOD | change)
