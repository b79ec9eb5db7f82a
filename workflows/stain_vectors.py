"""Where stain vectors come from: a file of the user's, or the tissue of the slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.postprocess.measure.stain_vectors import STANDARD, WHITE, StainBasis
from slideloom.tiling.tissue import find_tissue
from slideloom.wsi import Box, Slide

_BACKGROUND = "background"
_SAMPLE_MPP = 1.0
_SAMPLE_PX = 128
_SAMPLES = 64


def read_stain_vectors(path: Path) -> StainBasis:
    """The stain vectors of a JSON file.

    It holds an object of `haematoxylin`, `eosin` and `dab`, or two of them, each with the optical
    densities of red, green and blue as three numbers of any length; and, where white is not what is
    seen without stain, `background` as three numbers above 0 and 255 at most. Vectors are brought
    to length 1; two are completed by a residual, see `StainBasis.of`.

    Raises:
        SettingsError: There is no such file, or its content is something else.
    """
    try:
        content = orjson.loads(path.read_bytes())
        return _basis_of(content)
    except OSError as error:
        msg = f"stain vectors cannot be read from '{path}' ({error.strerror}): check the path"
        raise SettingsError(msg) from error
    except ValueError as error:
        msg = f"'{path}' holds no stain vectors ({error}): {_wanted()}"
        raise SettingsError(msg) from error


def _wanted() -> str:
    return (
        f"write a JSON object with two or three of {', '.join(STANDARD.names)}, each "
        f"[red, green, blue] in optical density, and {_BACKGROUND} if it is not white"
    )


def _basis_of(content: object) -> StainBasis:
    if not isinstance(content, Mapping):
        msg = f"it is no object but {type(content).__name__}"
        raise SettingsError(msg)
    unknown = sorted(set(content) - {*STANDARD.names, _BACKGROUND})
    names = [name for name in STANDARD.names if name in content]
    if unknown or len(names) < 2:
        msg = f"it names {', '.join(map(repr, content)) or 'nothing'}"
        raise SettingsError(msg)
    vectors = [_three(content, name) for name in names]
    light = _three(content, _BACKGROUND) if _BACKGROUND in content else WHITE
    return StainBasis.of(names, vectors, background=light)


def _three(content: Mapping[str, Any], name: str) -> Sequence[float]:
    figures = content[name]
    numbers = isinstance(figures, list) and all(
        isinstance(figure, int | float) and not isinstance(figure, bool) and isfinite(figure)
        for figure in figures
    )
    if not numbers or len(figures) != 3:
        msg = f"{name} is {figures!r}, not three numbers"
        raise SettingsError(msg)
    return [float(figure) for figure in figures]


def sample_tissue(slide: Slide) -> NDArray[np.uint8]:
    """`(n, 3)` pixels from tissue all over a slide, the same ones whatever model is run.

    They come from 64 squares of 128 x 128 pixels of 1 um, evenly spread over those that meet
    tissue; from all where there are fewer. Pixels of an overview would not do: where they are as
    large as a nucleus they mix the stains.

    Raises:
        MissingMppError: The slide states no mpp.
    """
    slide_mpp = slide.require_mpp()
    mpp = max(_SAMPLE_MPP, slide_mpp)
    bounds = Box.of_size(slide.size_at_mpp(mpp))
    tissue = find_tissue(slide)
    factor = mpp / slide_mpp
    squares = [box for box in _squares(bounds) if tissue.touches(_scaled(box, factor))]
    places = np.linspace(0, len(squares) - 1, min(_SAMPLES, len(squares)))
    read = [
        slide.read_at_mpp(squares[place], mpp=mpp).reshape(-1, 3)
        for place in np.rint(places).astype(int).tolist()
    ]
    return np.concatenate([np.zeros((0, 3), np.uint8), *read])


def _squares(bounds: Box) -> Iterator[Box]:
    for y in range(0, bounds.y1, _SAMPLE_PX):
        for x in range(0, bounds.x1, _SAMPLE_PX):
            yield Box(x0=x, y0=y, x1=x + _SAMPLE_PX, y1=y + _SAMPLE_PX).intersect(bounds)


def _scaled(box: Box, factor: float) -> Box:
    x0, y0, x1, y1 = (round(factor * side) for side in (box.x0, box.y0, box.x1, box.y1))
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)
