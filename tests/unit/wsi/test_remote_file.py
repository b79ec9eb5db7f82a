import os
import sys
from http import HTTPStatus
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slideloom.errors import (
    RegionError,
    SettingsError,
    SlideAccessError,
    SlideFormatError,
    SlideNotFoundError,
)
from slideloom.wsi import remote_file
from slideloom.wsi.byte_file import ByteRange, LocalFile
from slideloom.wsi.fingerprint import hash_opened
from slideloom.wsi.readers.reader import NoFileError
from slideloom.wsi.remote_file import RemoteFile, merge_ranges, open_remote
from tests.makers.serving import Habits, Web

SIZE = 2**21 + 777
CONTENT = np.random.default_rng(0).integers(0, 256, SIZE, dtype=np.uint8).tobytes()

ranges = st.lists(
    st.builds(ByteRange, start=st.integers(0, 500), count=st.integers(0, 60)), max_size=20
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slide.bin").write_bytes(CONTENT)
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "inside").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_file, "_PAUSES_S", (0.0, 0.0))


def _open(web: Web, name: str = "slide.bin") -> RemoteFile:
    file = open_remote(f"{web.url}/{name}")
    assert file is not None
    return file


@given(parts=ranges, gap=st.integers(0, 40), most=st.integers(1, 200))
def test_spans_hold_all_ranges(parts: list[ByteRange], gap: int, most: int) -> None:
    spans = merge_ranges(parts, gap=gap, most=most)
    members = [index for span in spans for index in span.members]
    assert sorted(members) == [i for i, part in enumerate(parts) if part.count]
    for span in spans:
        whole = span.whole
        inside = [parts[index] for index in span.members]
        assert whole.start == min(part.start for part in inside)
        assert whole.end == max(part.end for part in inside)
        assert whole.count <= max(most, *(part.count for part in inside))
        wanted = {byte for part in inside for byte in range(part.start, part.end)}
        vain = sorted(set(range(whole.start, whole.end)) - wanted)
        assert all(any(byte + step in wanted for step in range(1, gap + 1)) for byte in vain)


def test_neighbours_are_one_span_and_far_ones_are_not() -> None:
    parts = [ByteRange(start=start, count=10) for start in (300, 0, 10, 25)]
    spans = merge_ranges(parts, gap=5, most=1000)
    assert [span.members for span in spans] == [(1, 2, 3), (0,)]
    assert spans[0].whole == ByteRange(start=0, count=35)
    assert len(merge_ranges(parts, gap=5, most=20)) == 3


def test_ranges_are_what_the_file_holds(folder: Path) -> None:
    rng = np.random.default_rng(1)
    starts = rng.integers(0, SIZE - 5000, 60).tolist()
    parts = [ByteRange(start=start, count=int(rng.integers(0, 5000))) for start in starts]
    with Web(folder) as web:
        file = _open(web)
        assert file.size == SIZE
        found = file.fetch(parts)
        assert hash_opened([file]) == hash_opened([LocalFile(folder / "slide.bin")])
        file.close()
        with pytest.raises(RegionError, match="is closed"):
            file.fetch(parts)
    assert found == [CONTENT[part.start : part.end] for part in parts]
    assert found == LocalFile(folder / "slide.bin").fetch(parts)


def test_many_ranges_are_fetched_at_once(folder: Path) -> None:
    """The server answers none of four requests before all four are there."""
    from threading import Barrier

    far_apart = [ByteRange(start=i * 2**19, count=100) for i in range(4)]
    with Web(folder, Habits(meeting=Barrier(4))) as web:
        found = _open(web).fetch(far_apart)
        assert len(web.asked) == 5
    assert found == [CONTENT[part.start : part.end] for part in far_apart]


def test_a_parser_reads_as_from_a_disk(folder: Path) -> None:
    rng = np.random.default_rng(2)
    with Web(folder) as web, (folder / "slide.bin").open("rb") as twin:
        file = _open(web)
        with file.open() as stream:
            for _ in range(200):
                place = int(rng.integers(0, SIZE + 100))
                count = int(rng.integers(0, 100_000))
                assert stream.seek(place) == twin.seek(place)
                assert stream.read(count) == twin.read(count)
                assert stream.tell() == twin.tell() or place > SIZE
            buffer = bytearray(1000)
            assert stream.seek(-300, os.SEEK_END) == SIZE - 300
            assert stream.readinto(buffer) == 300  # type: ignore[attr-defined]
            assert bytes(buffer[:300]) == CONTENT[-300:]
            stream.seek(10)
            stream.seek(5, os.SEEK_CUR)
            assert stream.read() == CONTENT[15:]
            with pytest.raises(ValueError, match="no byte -1"):
                stream.seek(-1)
        # Each of the nine blocks is asked for once at most.
        assert len(web.asked) <= 10


@pytest.mark.parametrize("failure", [None, HTTPStatus.SERVICE_UNAVAILABLE])
def test_what_breaks_off_is_asked_for_again(folder: Path, failure: HTTPStatus | None) -> None:
    parts = [ByteRange(start=i * 2**19, count=100) for i in range(4)]
    with Web(folder) as web:
        file = _open(web)
        web.habits.failures += [failure, failure]
        assert file.fetch(parts) == [CONTENT[part.start : part.end] for part in parts]
        assert len(web.asked) == 1 + 4 + 2
        web.habits.failures += [failure] * 30
        with pytest.raises(SlideAccessError, match=r"slide.bin' cannot be fetched .*network"):
            file.fetch(parts)


def test_what_is_forbidden_is_asked_for_once(folder: Path) -> None:
    with Web(folder) as web:
        file = _open(web)
        web.habits.failures += [HTTPStatus.FORBIDDEN]
        with pytest.raises(SlideAccessError, match=r"may not be read .*credentials"):
            file.fetch([ByteRange(start=0, count=10)])
        web.habits.failures += [HTTPStatus.UNAUTHORIZED]
        with pytest.raises(SlideAccessError, match="may not be read"):
            open_remote(f"{web.url}/slide.bin")


@pytest.mark.parametrize("tags", [True, False])
@pytest.mark.parametrize("size", [SIZE, 1000, 3 * SIZE])
def test_a_file_that_changes_is_an_error(folder: Path, tags: bool, size: int) -> None:
    with Web(folder, Habits(tags=tags)) as web:
        file = _open(web)
        (folder / "slide.bin").write_bytes(bytes(size))
        if tags or size < SIZE:
            with pytest.raises(SlideAccessError, match="changed while it was read: wait"):
                file.fetch([ByteRange(start=2**20, count=10)])
        if tags or size != SIZE:
            with pytest.raises(SlideAccessError, match="changed while it was read"):
                file.check_unchanged()


def test_a_file_that_goes_is_an_error(folder: Path) -> None:
    with Web(folder) as web:
        file = _open(web)
        (folder / "slide.bin").unlink()
        for _ in range(2):
            with pytest.raises(SlideNotFoundError, match=r"slide.bin' is no longer there"):
                file.fetch([ByteRange(start=0, count=10)])
        with pytest.raises(SlideNotFoundError, match="is no longer there"):
            file.check_unchanged()


def test_a_parser_cannot_hide_that_the_network_failed(folder: Path) -> None:
    web = Web(folder)
    with web:
        file = _open(web)
    with pytest.raises(SlideAccessError, match="cannot be fetched"), file.open() as stream:  # noqa: SIM117
        with pytest.raises(OSError, match="cannot be fetched"):
            stream.read(10)


def test_what_is_no_file(folder: Path) -> None:
    with Web(folder) as web:
        for name in ("nothing.svs", "inside", "inside/"):
            with pytest.raises(NoFileError, match="there is no file at"):
                open_remote(f"{web.url}/{name}")
        with pytest.raises(SlideFormatError, match="is empty"):
            open_remote(f"{web.url}/empty.bin")


def test_a_server_without_ranges_is_told(folder: Path) -> None:
    with Web(folder, Habits(ranges=False)) as web:
        assert open_remote(f"{web.url}/slide.bin") is None
        assert len(web.asked) == 1


def test_a_server_that_stops_sending_ranges(folder: Path) -> None:
    with Web(folder) as web:
        file = _open(web)
        web.habits.ranges = False
        with pytest.raises(SlideAccessError, match="changed while it was read"):
            file.fetch([ByteRange(start=0, count=10)])


def test_urls_that_no_package_serves() -> None:
    with pytest.raises(SettingsError, match="is a URL of 'ftp': give one of s3"):
        open_remote("ftp://server/slide.svs")


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(SettingsError, match=r"not installed .*: .* pip install gcsfs"):
        open_remote("gs://bucket/slide.svs")
