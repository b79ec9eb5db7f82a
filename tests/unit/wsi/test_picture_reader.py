from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slideloom.errors import MissingMppError, SlideFormatError
from slideloom.wsi import Box, Display, Size, ValueRange, open_slide

Picture = NDArray[np.uint8]


def save(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.jpg"])
def test_a_picture_is_a_slide_of_one_level(tmp_path: Path, picture: Picture, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(picture).save(path, quality=95, lossless=True)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.reader_name == "picture"
        assert slide.size == Size(width=300, height=200)
        pixels = slide.read(Box.of_size(slide.size))
        assert np.abs(pixels.astype(int) - picture).mean() < (3 if name == "a.jpg" else 1e-9)
        assert slide.read_at_mpp(Box(x0=0, y0=0, x1=150, y1=100), mpp=1.0).shape == (100, 150, 3)


def test_a_picture_states_no_mpp(tmp_path: Path, picture: Picture) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path, dpi=(300, 300))
    with open_slide(path) as slide, pytest.raises(MissingMppError, match="pass --mpp"):
        slide.require_mpp()


@pytest.mark.parametrize(
    ("mode", "value", "shown"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (200, 100, 0, 51), (244, 224, 204)),
        ("LA", (100, 0), (255, 255, 255)),
        ("P", 3, None),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_other_colour_models_become_rgb(
    tmp_path: Path, mode: str, value: int | tuple[int, ...], shown: tuple[int, ...] | None
) -> None:
    image = Image.new(mode, (40, 30), value)
    if mode == "P":
        image.putpalette([10, 20, 30] * 4)
        shown = (10, 20, 30)
    with open_slide(save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), image)) as slide:
        pixels = slide.read(Box(x0=0, y0=0, x1=40, y1=30))
    assert np.abs(pixels.astype(int) - np.array(shown)).max() <= 2


def test_16_bits_stay_and_need_a_range(tmp_path: Path) -> None:
    stored = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50
    path = save(tmp_path / "a.png", Image.fromarray(stored))
    display = Display(ranges=(ValueRange(low=0, high=51000),))
    with open_slide(path, display=display) as slide:
        assert slide.channels == ("grey",)
        assert slide.dtype == np.uint16
        raw = slide.read_raw(Box(x0=0, y0=0, x1=40, y1=30))
        assert np.array_equal(raw[..., 0], stored)
        shown = slide.read(Box(x0=0, y0=0, x1=40, y1=30))
        assert shown[10, 20].tolist() == [105, 105, 105]
        assert shown[-1, -1].tolist() == [255, 255, 255]


def test_a_damaged_picture_says_so(tmp_path: Path, picture: Picture) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(picture))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(SlideFormatError, match=r"picture 'a\.png' cannot be decoded.*copy or exp"):
        open_slide(path)


def test_a_picture_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", Image.new("L", (300, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(SlideFormatError, match=r"too large to be decoded whole.*tiled TIFF"):
        open_slide(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with open_slide(path) as slide:
        assert slide.size == Size(width=300, height=200)
