from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from slideloom.tiling.tissue import TissueMask, find_tissue, tissue_of
from slideloom.wsi import Box, open_slide

Picture = NDArray[np.uint8]
PINK, PALE, PURPLE = (220, 140, 190), (238, 222, 232), (90, 60, 140)
RNG = np.random.default_rng(5)


def blob(background: tuple[int, ...], tissue: tuple[int, ...], *, noise: float = 2) -> Picture:
    """A disc of tissue with a small hole, on a noisy background, `(400, 500, 3)`."""
    y, x = np.mgrid[0:400, 0:500]
    inside = np.hypot(y - 200, x - 250) < 120
    inside &= np.hypot(y - 200, x - 250) > 8
    picture = np.where(inside[..., None], tissue, background)
    noisy = picture + np.random.default_rng(5).normal(0, noise, picture.shape)
    return np.asarray(np.clip(noisy, 0, 255), dtype=np.uint8)


GLASSES = {
    "white": (255, 255, 255),
    "grey": (225, 226, 224),
    "tinted": (236, 240, 231),
    "dim": (150, 150, 152),
}


@pytest.mark.parametrize("glass", GLASSES)
@pytest.mark.parametrize("stain", [PINK, PURPLE])
def test_stained_tissue_on_glass(glass: str, stain: tuple[int, ...]) -> None:
    through = tuple(int(a * b / 255) for a, b in zip(GLASSES[glass], stain, strict=True))
    mask = tissue_of(blob(GLASSES[glass], through))
    assert mask[200, 150]
    assert mask[200, 250], "the hole is filled"
    assert not mask[:60].any()
    assert not mask[:, :100].any()
    assert mask.sum() == pytest.approx(np.pi * 124**2, rel=0.05)


def test_pale_tissue_on_white_is_kept() -> None:
    mask = tissue_of(blob((250, 250, 250), PALE, noise=1))
    assert mask[200, 150]
    assert not mask[:60].any()


def test_grey_tissue_is_kept_by_its_darkness() -> None:
    mask = tissue_of(blob((245, 245, 245), (120, 120, 121)))
    assert mask[200, 150]
    assert not mask[:60].any()


@pytest.mark.parametrize("light", [(0, 0, 120), (25, 25, 25), (12, 0, 0), (255, 255, 255)])
def test_light_on_a_dark_background(light: tuple[int, ...]) -> None:
    mask = tissue_of(blob((3, 3, 3), light, noise=1))
    assert mask[200, 150]
    assert not mask[:60].any()


@pytest.mark.parametrize("light", [(0, 0, 230), (150, 150, 150)])
def test_bright_fluorescence_over_most_of_the_slide_is_kept(light: tuple[int, ...]) -> None:
    picture = np.full((200, 300, 3), light, dtype=np.uint8)
    picture[:, :70] = 2
    mask = tissue_of(picture)
    assert mask[:, 80:].all()


@pytest.mark.parametrize("color", [PINK, PALE, PURPLE])
def test_a_slide_that_is_all_tissue(color: tuple[int, ...]) -> None:
    picture = np.clip(RNG.normal(color, 4, (200, 300, 3)), 0, 255).astype(np.uint8)
    assert tissue_of(picture).mean() > 0.99


@pytest.mark.parametrize("color", [(255, 255, 255), (238, 238, 240), (128, 128, 128), (0, 0, 0)])
@pytest.mark.parametrize("noise", [0, 2])
def test_a_blank_slide_has_no_tissue(color: tuple[int, ...], noise: int) -> None:
    picture = np.clip(RNG.normal(color, noise, (200, 300, 3)), 0, 255).astype(np.uint8)
    assert not tissue_of(picture).any()


def test_specks_are_dropped() -> None:
    picture = np.full((400, 400, 3), 250, dtype=np.uint8)
    picture[50:53, 50:53] = PINK
    picture[200:220, 200:220] = PINK
    mask = tissue_of(picture)
    assert not mask[:150].any()
    assert mask[200:220, 200:220].all()


def test_black_margins_lose_no_tissue() -> None:
    picture = blob((250, 250, 250), PINK)
    picture[:, :90] = 0
    mask = tissue_of(picture)
    assert mask[200, 150]
    assert not mask[:, :80].any()


def test_a_tiny_slide_of_tissue_is_kept() -> None:
    assert tissue_of(np.full((4, 4, 3), PINK, dtype=np.uint8)).all()


def test_touches_asks_in_level_0_pixels() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[4, 7] = True
    tissue = TissueMask(mask=mask, scale_x=8.0, scale_y=10.0)
    assert tissue.fraction == 1 / 200
    assert tissue.touches(Box(x0=56, y0=40, x1=57, y1=41))
    assert tissue.touches(Box(x0=-50, y0=-50, x1=1000, y1=1000))
    assert tissue.touches(Box(x0=63, y0=49, x1=90, y1=90))
    assert not tissue.touches(Box(x0=64, y0=40, x1=90, y1=50))
    assert not tissue.touches(Box(x0=56, y0=30, x1=64, y1=40))
    assert not tissue.touches(Box(x0=57, y0=45, x1=57, y1=46))
    assert not tissue.touches(Box(x0=-90, y0=-90, x1=-10, y1=-10))
    assert not tissue.touches(Box(x0=900, y0=900, x1=910, y1=910))


def test_find_tissue_maps_back_to_level_0(tmp_path: Path) -> None:
    picture = np.full((1500, 2100, 3), 245, dtype=np.uint8)
    picture[600:900, 300:1500] = PINK
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", metadata=None)
    with open_slide(path, mpp=1.0) as slide:
        tissue = find_tissue(slide)
    assert max(tissue.mask.shape) == 512
    assert (tissue.scale_x, tissue.scale_y) == pytest.approx((4.1, 4.1), rel=0.01)
    assert tissue.touches(Box(x0=300, y0=600, x1=301, y1=601))
    assert tissue.touches(Box(x0=1499, y0=899, x1=1500, y1=900))
    assert not tissue.touches(Box(x0=0, y0=0, x1=2100, y1=570))
    assert not tissue.touches(Box(x0=1530, y0=0, x1=2100, y1=1500))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("CMU-1-Small-Region.svs", 0.35, 0.5),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.55, 0.7),
        ("test3-DAPI-2-387.ndpi", 0.7, 0.95),
        ("test3-TRITC_2_560.ndpi", 0.7, 0.95),
        ("multiframe_camelyon_challenge_image.dcm", 0.2, 0.35),
    ],
)
def test_real_slides(data_dir: Path, name: str, low: float, high: float) -> None:
    with open_slide(data_dir / "slides" / name) as slide:
        assert low < find_tissue(slide).fraction < high


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["test3-DAPI-2-387.ndpi", "test3-TRITC_2_560.ndpi"])
def test_fluorescence_loses_no_light(data_dir: Path, name: str) -> None:
    with open_slide(data_dir / "slides" / name) as slide:
        tissue = find_tissue(slide)
        light = slide.thumbnail(max(tissue.mask.shape)).max(axis=2)
    assert tissue.mask[light > 40].mean() > 0.999
