"""Stain vectors from files and from slides."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from slideloom.errors import SettingsError
from slideloom.postprocess.measure.stain_vectors import STANDARD, WHITE, estimate_stains
from slideloom.testing import write_slide
from slideloom.workflows.config import MeasureSettings
from slideloom.workflows.stain_vectors import read_stain_vectors, sample_tissue
from slideloom.workflows.stains import check_stains, plan_stains
from slideloom.wsi import open_slide

H, E, D = ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78])


def _file(folder: Path, content: object) -> Path:
    path = folder / "stains.json"
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return path


def test_three_vectors_are_read_in_any_order_and_of_any_length(tmp_path: Path) -> None:
    double = [2 * figure for figure in H]
    found = read_stain_vectors(_file(tmp_path, {"dab": D, "eosin": E, "haematoxylin": double}))
    assert found.names == STANDARD.names
    assert found.background == WHITE
    unit = np.array(STANDARD.vectors) / np.linalg.norm(STANDARD.vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(found.vectors, unit)


def test_any_two_are_completed_by_the_residual(tmp_path: Path) -> None:
    content = {"haematoxylin": H, "dab": D, "background": [240, 240, 250]}
    found = read_stain_vectors(_file(tmp_path, content))
    assert found.names == ("haematoxylin", "dab", "residual")
    assert found.background == (240, 240, 250)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "holds no stain vectors"),
        (b"\xff", "holds no stain vectors"),
        ([H, E], "no object but list"),
        ({}, "names nothing"),
        ({"haematoxylin": H}, "names 'haematoxylin'"),
        ({"hematoxylin": H, "eosin": E}, "names 'hematoxylin', 'eosin'"),
        ({"haematoxylin": H, "eosin": E, "red": D}, "'red'"),
        ({"haematoxylin": H, "eosin": [0.1, 0.9]}, "not three numbers"),
        ({"haematoxylin": H, "eosin": [0.1, 0.9, "x"]}, "not three numbers"),
        ({"haematoxylin": H, "eosin": [0.1, 0.9, True]}, "not three numbers"),
        ({"haematoxylin": H, "eosin": 3}, "not three numbers"),
        ({"haematoxylin": H, "eosin": [0, 0, 0]}, "not all 0"),
        ({"haematoxylin": H, "eosin": H}, "too alike"),
        ({"haematoxylin": H, "eosin": E, "background": [0, 255, 255]}, "background"),
        ({"haematoxylin": H, "eosin": E, "background": 255}, "not three numbers"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(SettingsError, match=reason) as caught:
        read_stain_vectors(path)
    assert str(path) in str(caught.value)
    assert "write a JSON object" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_stain_vectors(tmp_path / "none.json")


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White glass with one pink square of 300 um."""
    pixels = np.full((1400, 2000, 3), 245, np.uint8)
    pixels[512:1112, 1024:1624] = (190, 80, 160)
    path = tmp_path_factory.mktemp("square") / "square.tif"
    write_slide(path, pixels, mpp=0.5)
    return path


def test_samples_are_of_the_tissue_and_not_of_the_glass(square: Path) -> None:
    with open_slide(square) as slide:
        found = sample_tissue(slide)
    stained = (found.min(axis=1) < 200).sum()
    assert stained == pytest.approx(300 * 300, rel=0.05)
    assert stained > len(found) / 3


def test_a_slide_of_one_stain_takes_the_standard_vectors_and_says_so(square: Path) -> None:
    settings = MeasureSettings(stains=True, stain_vectors="estimated")
    with open_slide(square) as slide:
        plan = plan_stains(slide, settings, mpp=0.5, labels=None)
    assert plan is not None
    assert plan.basis == STANDARD
    assert not plan.record.estimated
    assert plan.record.vectors == dict(zip(STANDARD.names, STANDARD.vectors, strict=True))


def test_blank_glass_has_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "blank.tif"
    write_slide(path, np.full((300, 300, 3), 245, np.uint8), mpp=0.5)
    with open_slide(path) as slide:
        assert sample_tissue(slide).shape == (0, 3)


@pytest.mark.parametrize(("ring_um", "width_px"), [(2.0, 4.0), (0.1, 1.0)])
def test_a_ring_is_at_least_one_pixel_wide(square: Path, ring_um: float, width_px: float) -> None:
    settings = MeasureSettings(stains=True, ring_um=ring_um)
    with open_slide(square) as slide:
        plan = plan_stains(slide, settings, mpp=0.5, labels=Path("labels"))
        assert plan is not None
        assert plan.ring is not None
        assert plan.ring.width_px == width_px
        with pytest.raises(SettingsError, match="where objects are"):
            plan_stains(slide, settings, mpp=0.5, labels=None)


def test_settings_are_refused_before_any_slide_is_opened(tmp_path: Path) -> None:
    check_stains(MeasureSettings())
    check_stains(MeasureSettings(stains=True, stain_vectors="estimated", ring_um=2.0))
    path = _file(tmp_path, {"haematoxylin": H, "eosin": E})
    check_stains(MeasureSettings(stains=True, stain_vectors=path))
    with pytest.raises(SettingsError, match="add --stains"):
        check_stains(MeasureSettings(stain_vectors=path))
    with pytest.raises(SettingsError, match="no stain vectors"):
        check_stains(MeasureSettings(stains=True, stain_vectors=_file(tmp_path, {})))


@pytest.mark.realdata
def test_haematoxylin_of_a_real_slide_takes_red_and_eosin_takes_green(data_dir: Path) -> None:
    with open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs") as slide:
        found = estimate_stains(sample_tissue(slide))
    assert found is not None
    haematoxylin, eosin, _ = found.vectors
    assert haematoxylin[0] > 3 * eosin[0]
    assert eosin[1] > 1.3 * haematoxylin[1]
    assert np.degrees(np.arccos(np.dot(haematoxylin, eosin))) > 35
