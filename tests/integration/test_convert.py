"""`slideloom convert`: what comes out, and that nothing half-made is ever left."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import slideloom
from slideloom.errors import OutputError, SettingsError
from slideloom.testing.slides import halve, write_slide
from slideloom.workflows.cli import run_command
from slideloom.workflows.control import RunControl
from slideloom.workflows.convert import ConvertOptions, convert_slide
from slideloom.workflows.events import Event
from slideloom.wsi import Box, Mpp, Size, Slide, open_slide
from slideloom.wsi.writing.pyramid import pyramid_tiles
from tests.makers.array_slide import array_slide
from tests.makers.pyramid_truth import noise, pyramid_truth

TILE = Size(width=240, height=240)
OUTPUTS = ["out.ome.zarr", "out.ome.tiff", "OUT.OME.TIF"]


class Listener:
    """Counts tiles; at tile `fail_at` it raises `error`."""

    def __init__(self, fail_at: int = -1, error: BaseException | None = None) -> None:
        self.total = self.done = 0
        self._fail_at = fail_at
        self._error = error

    def hear(self, event: Event) -> None:
        if event.kind == "stage_started":
            self.total = int(event.facts["steps"])
        elif event.kind == "tiles_done":
            self.done += int(event.facts["tiles"])
        if self._error is not None and self.done >= self._fail_at:
            raise self._error


def told(listener: Listener) -> RunControl:
    return RunControl(listen=listener.hear)


def whole(slide: Slide, level: int = 0) -> NDArray[Any]:
    return slide.read_raw(Box.of_size(slide.levels[level].size), level=level)


def names(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return noise((1100, 700, 3))


@pytest.fixture
def source(tmp_path: Path, picture: NDArray[np.uint8]) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "slide.tif"
    write_slide(path, picture, mpp=0.25, tile_px=240, quality=None)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_command_writes_a_pyramid_that_opens(
    source: Path,
    out: Path,
    picture: NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    assert run_command(["convert", str(source), str(out / name)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out / name}: 700 x 1100 pixels, 3 levels\n"
    assert told.err == ""
    assert names(out) == [name]
    with open_slide(out / name) as slide:
        assert slide.mpp == Mpp(x=0.25, y=0.25)
        for level, expected in enumerate(pyramid_truth(picture)):
            np.testing.assert_array_equal(whole(slide, level), expected)


def test_options_of_the_command(source: Path, out: Path) -> None:
    pixels = {}
    for arguments in (
        ["a.ome.zarr", "--ome-version", "0.4", "--mpp", "0.5"],
        ["b.ome.tiff", "--compression", "jpeg", "--quality", "30", "--workers", "1"],
    ):
        path = out / arguments[0]
        assert run_command(["convert", str(source), str(path), *arguments[1:]]) == 0
        with open_slide(path) as slide:
            pixels[path.name] = (slide.mpp, whole(slide).astype(int))
    assert (out / "a.ome.zarr" / ".zattrs").is_file()
    assert pixels["a.ome.zarr"][0] == Mpp(x=0.5, y=0.5)
    difference = np.abs(pixels["b.ome.tiff"][1] - pixels["a.ome.zarr"][1])
    assert difference.mean() > 5


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_is_there_is_replaced_only_when_asked(
    source: Path, out: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    words = ["convert", str(source), str(out / name)]
    (out / name).write_text("mine")
    assert run_command(words) == 2
    assert "exists already: choose another output, or pass --overwrite" in capsys.readouterr().err
    assert (out / name).read_text() == "mine"
    for _ in range(2):
        assert run_command([*words, "--overwrite"]) == 0
        assert names(out) == [name]
    open_slide(out / name).close()


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_slide_that_is_damaged_in_the_middle_leaves_what_was_there(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    source = tmp_path / "a.npy"
    words = ["convert", str(source), str(out / name), "--reader", "array"]
    with array_slide(source, noise((1100, 700, 4)), tile=TILE, broken=(4, 1)):
        assert run_command(words) == 1
        assert "damaged at tile row 4" in capsys.readouterr().err
        assert names(out) == []
        (out / name).write_text("mine")
        assert run_command([*words, "--overwrite"]) == 1
        assert names(out) == [name]
        assert (out / name).read_text() == "mine"


def test_blank_tiles_are_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = noise((300, 300, 1))
    source, target = tmp_path / "a.npy", out / "a.ome.zarr"
    words = ["convert", str(source), str(target), "--reader", "array", "--on-bad-tile", "blank"]
    with array_slide(source, pixels, tile=TILE, mpp=Mpp(x=1, y=1), broken=(1, 1)):
        assert run_command(words) == 0
    assert "1 tiles could not be decoded: they are blank" in capsys.readouterr().err
    pixels[240:, 240:] = 0
    with open_slide(target) as slide:
        np.testing.assert_array_equal(whole(slide), pixels)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("fail_at", [1, 7, 9])
def test_an_interrupted_call_leaves_nothing(
    source: Path, out: Path, name: str, fail_at: int
) -> None:
    with open_slide(source) as slide:
        for error in (KeyboardInterrupt(), RuntimeError("a bug")):
            with pytest.raises(type(error)):
                convert_slide(slide, out / name, control=told(Listener(fail_at, error)))
            assert names(out) == []


def test_a_full_disk_is_one_sentence(source: Path, out: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        open_slide(source) as slide,
        pytest.raises(OutputError, match=r"No space left on device\): check .* has room"),
    ):
        convert_slide(slide, out / "a.ome.zarr", control=told(Listener(3, full)))
    assert names(out) == []


def test_what_a_killed_process_left_is_cleared(source: Path, out: Path) -> None:
    left = out / ".a.ome.tiff.part"
    left.mkdir()
    (left / "new").write_bytes(b"half")
    with open_slide(source) as slide:
        assert convert_slide(slide, out / "a.ome.tiff") == out / "a.ome.tiff"
    assert names(out) == ["a.ome.tiff"]


@pytest.fixture
def refused(source: Path) -> Iterator[Callable[..., str]]:
    with open_slide(source) as slide:

        def call(
            path: Path, options: ConvertOptions, error: type[Exception] = SettingsError
        ) -> str:
            with pytest.raises(error) as found:
                convert_slide(slide, path, options=options)
            return str(found.value)

        yield call


def test_settings_that_make_no_sense(refused: Callable[..., str], source: Path, out: Path) -> None:
    zarr, tiff = out / "a.ome.zarr", out / "a.ome.tiff"
    assert "choose one of .ome.zarr, .ome.tiff, .ome.tif" in refused(
        out / "a.tiff", ConvertOptions()
    )
    assert "for .ome.tiff" in refused(zarr, ConvertOptions(compression="zstd"))
    assert "for .ome.tiff" in refused(zarr, ConvertOptions(quality=9))
    assert "is 0.5 or 0.4, got '1'" in refused(zarr, ConvertOptions(ome_version="1"))
    assert "for .ome.zarr" in refused(tiff, ConvertOptions(ome_version="0.5"))
    assert "no compression 'png'" in refused(tiff, ConvertOptions(compression="png"))
    assert "make it" in refused(out / "no" / "a.ome.zarr", ConvertOptions(), OutputError)
    with pytest.raises(SettingsError, match="--workers must be at least 1, got 0"):
        ConvertOptions(workers=0)
    assert names(out) == []
    assert source.is_file()


def test_a_slide_is_never_converted_onto_itself(source: Path, out: Path) -> None:
    path = out / "a.ome.tiff"
    with open_slide(source) as slide:
        convert_slide(slide, path)
    before = path.read_bytes()
    with open_slide(path) as slide, pytest.raises(SettingsError, match="is the slide itself"):
        convert_slide(slide, out / ".." / "out" / path.name, options=ConvertOptions(overwrite=True))
    assert path.read_bytes() == before


def test_a_slide_without_mpp_is_told_and_no_scale_is_invented(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.npy"
    with array_slide(source, noise((30, 20, 3)), tile=TILE):
        for name in OUTPUTS:
            words = ["convert", str(source), str(out / name), "--reader", "array"]
            assert run_command(words) == 0
            assert "states no mpp" in capsys.readouterr().err
            with open_slide(out / name) as slide:
                assert slide.mpp is None
            assert run_command([*words, "--mpp", "0.5", "--overwrite"]) == 0
            assert capsys.readouterr().err == ""


def test_progress_hears_of_every_tile(source: Path, out: Path) -> None:
    for name in OUTPUTS:
        listener = Listener()
        with open_slide(source) as slide:
            slideloom.convert_slide(slide, str(out / name), control=told(listener))
            assert listener.total == listener.done == pyramid_tiles(slide.size)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("slide_name", "name"),
    [
        ("CMU-1-Small-Region.svs", "out.ome.tiff"),
        ("CMU-1-Small-Region.svs", "out.ome.zarr"),
        ("test3-DAPI-2-387.ndpi", "out.ome.zarr"),
    ],
)
def test_real_slides_keep_their_pixels(
    data_dir: Path, out: Path, slide_name: str, name: str
) -> None:
    with open_slide(data_dir / "slides" / slide_name) as slide:
        convert_slide(slide, out / name)
        with open_slide(out / name) as copy:
            assert copy.channels == slide.channels
            assert (copy.mpp is None) == (slide.mpp is None)
            if slide.mpp is not None and copy.mpp is not None:
                expected = pytest.approx((slide.mpp.x, slide.mpp.y))
                assert (copy.mpp.x, copy.mpp.y) == expected
            finest = whole(copy)
            np.testing.assert_array_equal(finest, whole(slide))
            np.testing.assert_array_equal(whole(copy, 1), halve(finest))


def test_a_conversion_never_writes_into_its_source_nor_over_its_folder(
    source: Path, out: Path
) -> None:
    store = out / "a.ome.zarr"
    with open_slide(source) as slide:
        convert_slide(slide, store)
    inner = store / "0" / "b.ome.tif"
    with open_slide(store) as slide, pytest.raises(SettingsError, match="in one another"):
        convert_slide(slide, inner)
    with open_slide(source) as slide:
        convert_slide(slide, inner)
    replace = ConvertOptions(overwrite=True)
    with open_slide(inner) as slide, pytest.raises(SettingsError, match="in one another"):
        convert_slide(slide, store, options=replace)
    assert inner.is_file()
