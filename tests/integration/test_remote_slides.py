"""Slides in a bucket of a real S3-speaking server, as a lab keeps them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from slideloom.errors import SettingsError, SlideAccessError, SlideFormatError, SlideNotFoundError
from slideloom.testing import PerfectTileModel, Scene, perfect_spec
from slideloom.workflows import slides
from slideloom.workflows.config import RunConfig
from slideloom.workflows.run import run_slide
from slideloom.workflows.slides import find_slides
from slideloom.wsi import Box, open_slide
from slideloom.wsi.remote import ForbiddenError
from tests.makers.ngff import Ngff, pyramid, write_ngff
from tests.makers.serving import S3Server

BOX = Box(x0=100, y0=120, x1=900, y1=700)
READ_IN_A_FORK = """
import os, sys
from slideloom.wsi import Box, open_slide

box = Box(x0=100, y0=120, x1=900, y1=700)
slide = open_slide(sys.argv[1])
expected = slide.read(box)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0 if (slide.read(box) == expected).all() else 1)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3") / "log.txt")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in server.environment(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def url(server: S3Server, slide_path: Path) -> str:
    return server.put("lab/made.tif", slide_path.read_bytes())


def test_a_bucket_reads_as_the_file(server: S3Server, url: str, slide_path: Path) -> None:
    before = len(server.requests())
    with open_slide(url) as remote, open_slide(slide_path) as local:
        assert remote.reader_name == "tiff"
        assert remote.levels == local.levels
        assert remote.fingerprint() == local.fingerprint()
        opening = len(server.requests()) - before
        for level, item in enumerate(local.levels):
            box = Box.of_size(item.size)
            np.testing.assert_array_equal(
                remote.read(box, level=level), local.read(box, level=level)
            )
        reading = len(server.requests()) - before - opening
    # One for the size, the blocks of the head and of the directories, three for the fingerprint.
    assert opening <= 10
    assert reading <= 6


def test_a_forked_process_reads_a_bucket(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_IN_A_FORK, url], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_slide_that_is_replaced_or_deleted(server: S3Server, slide_path: Path) -> None:
    data = slide_path.read_bytes()
    for change in (lambda: server.put("b.tif", data[::-1]), lambda: server.delete("b.tif")):
        slide = open_slide(server.put("b.tif", data), on_bad_tile="blank")
        change()
        with pytest.raises((SlideAccessError, SlideNotFoundError), match="while it was read"):
            slide.read(BOX)
    with pytest.raises(SlideFormatError, match="is cut off"):
        open_slide(server.put("cut.tif", data[:-2000]))


def test_what_is_not_there(server: S3Server) -> None:
    for url in ("s3://slides/no.svs", "s3://nowhere/no.svs"):
        with pytest.raises(SlideNotFoundError, match=f"there is no slide at '{url}'"):
            open_slide(url)


def test_who_has_no_credentials_may_not_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SlideAccessError, match=r"may not be read .*credentials"):
        open_slide(url)


def test_who_may_not_list_names_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str) -> None:
        raise ForbiddenError(url)

    # moto lets everybody list.
    monkeypatch.setattr(slides, "entry_at", refuse)
    monkeypatch.setattr(slides, "list_folder", refuse)
    for url in ("s3://slides/lab/made.tif", "s3://slides/lab/plain"):
        assert find_slides([url]) == [url]


def _put_study(server: S3Server, folder: Path) -> None:
    for name in (
        "b.svs",
        "a.tif",
        "a.txt",
        ".hidden.svs",
        ".work/c.svs",
        "deep/er/d.NDPI",
        "series/1.dcm",
        "series/2.dcm",
        "e.ome.zarr.zip",
    ):
        server.put(f"study/{name}", b"x")
    write_ngff(folder / "z.ome.zarr", pyramid(levels=2), Ngff(version="0.4"))
    write_ngff(folder / "plain", pyramid(levels=2))
    (folder / "labels.zarr").mkdir()
    (folder / "labels.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    for file in folder.rglob("*"):
        if file.is_file():
            server.put(f"study/{file.relative_to(folder).as_posix()}", file.read_bytes())


def test_a_bucket_is_listed_as_a_folder(server: S3Server, tmp_path: Path) -> None:
    _put_study(server, tmp_path)
    before = len(server.requests())
    found = find_slides(["s3://slides/study/"])
    listings = [line for line in server.requests()[before:] if "list-type" in line]
    assert found == [
        f"s3://slides/study/{name}"
        for name in (
            "a.tif",
            "b.svs",
            "e.ome.zarr.zip",
            "z.ome.zarr",
            "deep/er/d.NDPI",
            "plain",
            "series",
        )
    ]
    assert not any("z.ome.zarr/" in line.split("prefix=")[1] for line in listings)
    assert find_slides(["s3://slides/study/*.svs", "s3://slides/study/b.svs"]) == [
        "s3://slides/study/.hidden.svs",
        "s3://slides/study/b.svs",
    ]
    assert find_slides(["s3://slides/study/**/*.[Nn]*"]) == ["s3://slides/study/deep/er/d.NDPI"]
    assert find_slides(["s3://slides/study/*.ome.zarr"]) == ["s3://slides/study/z.ome.zarr"]
    assert find_slides(["s3://slides/study/de*"]) == ["s3://slides/study/deep/er/d.NDPI"]
    assert find_slides(["s3://slides/study/later.svs"]) == ["s3://slides/study/later.svs"]
    assert find_slides(["s3://slides/study/a.txt"]) == ["s3://slides/study/a.txt"]


def test_nothing_in_a_bucket_says_so(server: S3Server) -> None:
    server.put("notes/a.txt", b"x")
    for nothing in ("s3://slides/notes/", "s3://slides/notes/*.svs", "s3://slides/gone/*.svs"):
        with pytest.raises(SettingsError, match="no slides in 's3://slides/"):
            find_slides([nothing])
    for missing in ("s3://slides/gone/", "s3://nowhere/"):
        with pytest.raises(SlideNotFoundError, match="there is no slide or folder"):
            find_slides([missing])


def test_a_run_from_a_bucket_is_the_run_of_the_file(
    url: str, slide_path: Path, scene: Scene, tmp_path: Path
) -> None:
    model = PerfectTileModel(
        scene, spec=perfect_spec(scene, task="instance", tile_px=256, halo_px=32)
    )
    config = RunConfig(tissue=True, region_px=512, workers=2, batch_size=4)
    for name, source in (("there", url), ("here", slide_path)):
        with open_slide(source) as slide:
            run_slide(slide, model, out=tmp_path / name, config=config)
    for file in ("objects.geojson", "objects.parquet", "overlay.png"):
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()
