import numpy as np
import pytest
from numpy.typing import NDArray

from slideloom.errors import SettingsError
from slideloom.wsi import Box, Display, ValueRange
from slideloom.wsi.display import DisplayedPixels
from slideloom.wsi.readers.reader import RGB_CHANNELS
from tests.makers.arrays import ArrayReader

STAINS = ("DAPI", "FITC", "TRITC", "Cy5")
BOX = Box(x0=1, y0=2, x1=9, y1=8)


def fluorescence(dtype: str = "uint16") -> ArrayReader:
    pixels = np.random.default_rng(0).integers(0, 200, (20, 30, 4)) * 20
    return ArrayReader([pixels.astype(dtype)], channels=STAINS, background=(0, 0, 0, 0))


def shown(reader: ArrayReader, display: Display | None = None) -> NDArray[np.uint8]:
    return DisplayedPixels(reader, reader, display=display).read(BOX, 0)


def slowly(stored: NDArray[np.uint16], low: float, high: float) -> NDArray[np.uint8]:
    """One pixel at a time, as the definition says it."""
    out = np.zeros(stored.shape, np.uint8)
    for place, value in np.ndenumerate(stored):
        share = min(max((float(value) - low) / (high - low), 0.0), 1.0)
        out[place] = int(share * 255 + 0.5)
    return out


@pytest.mark.parametrize("channels", [("Cy5", "DAPI", "FITC"), (3, 0, 1), ("3", "0", "FITC")])
def test_three_channels_are_red_green_and_blue(channels: tuple[str | int, ...]) -> None:
    reader = fluorescence()
    display = Display(channels=channels, ranges=(ValueRange(low=100, high=3000),))
    stored = reader.arrays[0][2:8, 1:9][..., [3, 0, 1]]
    assert np.abs(shown(reader, display).astype(int) - slowly(stored, 100, 3000)).max() <= 1
    assert np.mean(shown(reader, display) == slowly(stored, 100, 3000)) > 0.99


def test_one_channel_is_grey_and_each_has_its_range() -> None:
    reader = fluorescence()
    wide = ValueRange(low=0, high=4000)
    pixels = shown(reader, Display(channels=("FITC",), ranges=(wide,)))
    assert (pixels == pixels[..., :1]).all()
    ranges = (wide, ValueRange(low=0, high=100), wide)
    mixed = shown(reader, Display(channels=("FITC", "FITC", "FITC"), ranges=ranges))
    assert np.array_equal(mixed[..., 0], pixels[..., 0])
    assert (mixed[..., 1] > mixed[..., 0]).any()


def test_grey_of_8_bits_needs_no_settings() -> None:
    grey = np.arange(600, dtype=np.uint8).reshape(20, 30, 1)
    reader = ArrayReader([grey], channels=("grey",), background=(0,))
    assert np.array_equal(shown(reader), np.repeat(grey[2:8, 1:9], 3, axis=2))


def test_the_background_is_shown_as_pixels_are() -> None:
    reader = fluorescence()
    reader.background = (0, 400, 4000, 0)
    display = Display(channels=(0, 1, 2), ranges=(ValueRange(low=0, high=4000),))
    assert DisplayedPixels(reader, reader, display=display).background == (0, 26, 255)


def test_8_bit_channels_are_shown_as_they_are() -> None:
    reader = fluorescence("uint8")
    assert np.array_equal(
        shown(reader, Display(channels=("Cy5", 1, 0))), reader.arrays[0][2:8, 1:9][..., [3, 1, 0]]
    )


@pytest.mark.parametrize(
    ("dtype", "channels", "ranges", "found"),
    [
        ("uint16", None, ((0, 9),), r"has 4 channels \(DAPI, FITC, TRITC, Cy5\): say with --chann"),
        ("uint16", (0,), None, "pixels are uint16: say with --display-range LOW:HIGH"),
        ("uint16", ("Cy7",), ((0, 9),), "no channel 'Cy7': choose from 0 DAPI, 1 FITC, 2 TRITC"),
        ("uint16", (4,), ((0, 9),), "no channel 4: choose from 0 DAPI"),
        ("uint16", (-1,), ((0, 9),), "no channel -1"),
        ("uint16", (0,), ((0, 9), (0, 9)), "2 display ranges were given for 1 channels"),
        ("uint8", (0, 1), None, "one channel or three can be shown, got 2"),
        ("uint8", (0,), ((9, 9),), "from a lower to a higher value, got 9:9"),
        ("uint8", (0,), ((0, float("inf")),), "from a lower to a higher value, got 0:inf"),
    ],
)
def test_what_cannot_be_shown(
    dtype: str,
    channels: tuple[str | int, ...] | None,
    ranges: tuple[tuple[float, float], ...] | None,
    found: str,
) -> None:
    def show() -> None:
        values = None
        if ranges is not None:
            values = tuple(ValueRange(low=low, high=high) for low, high in ranges)
        shown(fluorescence(dtype), Display(channels=channels, ranges=values))

    with pytest.raises(SettingsError, match=found):
        show()


def test_rgb_of_16_bits_needs_a_range() -> None:
    pixels = np.full((20, 30, 3), 65535, np.uint16)
    reader = ArrayReader([pixels], channels=RGB_CHANNELS)
    with pytest.raises(SettingsError, match="display-range"):
        shown(reader)
