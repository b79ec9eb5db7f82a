from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.wsi import Mpp, open_slide

WriteTiff = Callable[..., Path]
Picture = NDArray[np.uint8]

MPPS: dict[str, tuple[dict[str, Any], Mpp | None]] = {
    "centimetre": ({"resolution": (40_000, 20_000), "resolutionunit": 3}, Mpp(x=0.25, y=0.5)),
    "inch": ({"resolution": (25_400, 25_400), "resolutionunit": 2}, Mpp(x=1, y=1)),
    "screen": ({"resolution": (72, 72), "resolutionunit": 2}, None),
    "printer": ({"resolution": (300, 300), "resolutionunit": 2}, None),
    "unitless": ({"resolution": (40_000, 40_000), "resolutionunit": 1}, None),
    "aperio": ({"description": "Aperio Image\n9x9|MPP = 0.2525|x = 1"}, Mpp(x=0.2525, y=0.2525)),
    "not aperio": ({"description": "Other|MPP = 0.2525"}, None),
    "aperio zero": ({"description": "Aperio Image\n9x9|MPP = 0"}, None),
    "aperio with a comma": ({"description": "Aperio\n9x9|MPP = 0,25"}, Mpp(x=0.25, y=0.25)),
    "aperio nonsense": ({"description": "Aperio\n9x9|MPP = 0.2.5"}, None),
    "aperio without end": ({"description": "Aperio\n9x9|MPP = 1e999"}, None),
}


@pytest.mark.parametrize("kind", MPPS)
def test_mpp(write_tiff: WriteTiff, kind: str) -> None:
    options, expected = MPPS[kind]
    with open_slide(write_tiff(**options)) as slide:
        assert slide.mpp == expected


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        (None, 1.0),
        ("µm", 1.0),
        ("pm", 1e-6),
        ("Å", 1e-4),
        ("nm", 1e-3),
        ("mm", 1e3),
        ("cm", 1e4),
        ("in", 25_400.0),
        ("pixel", None),
        ("reference frame", None),
    ],
)
def test_mpp_of_ome(
    tmp_path: Path, picture: Picture, unit: str | None, factor: float | None
) -> None:
    metadata: dict[str, object] = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    if unit is not None:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, picture, tile=(64, 64), photometric="rgb", metadata=metadata)
    with open_slide(path) as slide:
        assert slide.reader_name == "tiff"
        if factor is None:
            assert slide.mpp is None
        else:
            assert slide.mpp is not None
            assert (slide.mpp.x, slide.mpp.y) == pytest.approx((0.5 * factor, 0.25 * factor))
