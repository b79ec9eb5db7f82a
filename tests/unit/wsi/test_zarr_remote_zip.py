import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slideloom.errors import SlideAccessError, SlideFormatError
from slideloom.wsi import Box, open_slide
from slideloom.wsi.readers.ome_zarr.reader import ZarrReader
from slideloom.wsi.readers.opening import open_reader
from tests.makers.ngff import Ngff, pyramid, write_ngff, zip_store
from tests.makers.serving import Habits, Web

LEVELS = pyramid(levels=2)
PART = Box(x0=10, y0=20, x1=100, y1=90)
EXPECTED = LEVELS[0][:, 20:90, 10:100].transpose(1, 2, 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Zips of each kind: `sharded` is read in parts of its entries."""
    write_ngff(tmp_path / "v04", LEVELS, Ngff(version="0.4"))
    write_ngff(tmp_path / "v05", LEVELS)
    write_ngff(tmp_path / "sharded", LEVELS, chunks=(3, 16, 16), shards=(3, 64, 64))
    for name in ("v04", "v05", "sharded"):
        zip_store(tmp_path / name, tmp_path / f"{name}.ome.zarr.zip", inside=f"{name}.ome.zarr")
    with zipfile.ZipFile(tmp_path / "deflated.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "sharded").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "sharded"))
    return tmp_path


@pytest.fixture
def web(folder: Path) -> Iterator[Web]:
    with Web(folder) as web:
        yield web


@pytest.mark.parametrize(
    "name",
    ["v04.ome.zarr.zip", "v05.ome.zarr.zip", "sharded.ome.zarr.zip", "deflated.zip"],
)
def test_a_zip_behind_a_url_reads_as_the_file(web: Web, folder: Path, name: str) -> None:
    size = (folder / name).stat().st_size
    with open_slide(f"{web.url}/{name}") as slide, open_slide(folder / name) as local:
        assert slide.reader_name == "zarr"
        assert slide.name == local.name
        assert slide.levels == local.levels
        assert slide.fingerprint() == local.fingerprint()
        np.testing.assert_array_equal(slide.read(PART), EXPECTED)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(slide)).read(PART), EXPECTED)
    ranges = [line.rsplit("=", maxsplit=1)[1].split("-") for line in web.asked]
    assert all(int(end) - int(start) < size for start, end in ranges)


def test_requests_for_a_zip_are_few(web: Web) -> None:
    reader = ZarrReader(f"{web.url}/v05.ome.zarr.zip")
    # The first byte, the list of entries in a block or two, the group and two levels.
    assert len(web.asked) <= 7
    before = len(web.asked)
    np.testing.assert_array_equal(reader.read(Box(x0=0, y0=0, x1=9, y1=9), 0).shape, (9, 9, 3))
    assert len(web.asked) == before + 1


def test_damaged_zips_behind_urls(web: Web, folder: Path) -> None:
    good = (folder / "v05.ome.zarr.zip").read_bytes()
    (folder / "cut.zip").write_bytes(good[:-50])
    (folder / "notes.zip").write_bytes(b"no zip")
    for name in ("cut.zip", "notes.zip"):
        with pytest.raises(SlideFormatError, match=rf"{name}' is a zip that cannot be read"):
            open_reader(f"{web.url}/{name}", None)
    with zipfile.ZipFile(folder / "v05.ome.zarr.zip") as archive:
        places = {entry.filename: entry.header_offset for entry in archive.infolist()}
    place = next(at for name, at in places.items() if name.endswith("0/c/0/1/0"))
    for step, name in ((0, "head.zip"), (90, "content.zip")):
        data = bytearray(good)
        data[place + step] ^= 255
        (folder / name).write_bytes(data)
        reader = ZarrReader(f"{web.url}/{name}")
        with pytest.raises(SlideFormatError, match="is damaged at level 0, in chunk rows 0 to 2"):
            reader.read(PART, 0)
        part = Box(x0=40, y0=0, x1=60, y1=20)
        cut = LEVELS[0][:, :20, 40:60].transpose(1, 2, 0)
        np.testing.assert_array_equal(reader.read(part, 0), cut)


def test_a_zip_that_goes_is_no_blank_slide(web: Web, folder: Path) -> None:
    reader = ZarrReader(f"{web.url}/v05.ome.zarr.zip")
    (folder / "v05.ome.zarr.zip").unlink()
    with pytest.raises(SlideAccessError, match="is no longer there"):
        reader.read(PART, 0)


def test_a_zip_of_a_server_without_ranges_is_refused(folder: Path) -> None:
    with (
        Web(folder, Habits(ranges=False)) as web,
        pytest.raises(SlideFormatError, match="does not send parts of files: download"),
    ):
        open_reader(f"{web.url}/v05.ome.zarr.zip", None)
