import errno
import os
import re
import resource
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import orjson
import pytest
from upath import UPath

from slideloom.errors import OutputError
from slideloom.workflows.batch.event_log import EVENTS_FILE, EventLog
from slideloom.workflows.events import Event, Fact

Line = dict[str, Any]


def event(kind: Any = "stage_done", slide: str = "S1", **facts: Fact) -> Event:
    return Event(kind=kind, slide=slide, facts=facts)


def lines_of(text: bytes) -> list[Line]:
    assert text.endswith(b"\n")
    return [orjson.loads(line) for line in text.splitlines()]


def lines_in(folder: Path) -> list[Line]:
    return lines_of((folder / EVENTS_FILE).read_bytes())


def test_a_line_tells_when_what_and_of_which_slide(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    with EventLog(tmp_path) as log:
        log.hear(event("slide_done", "S1", seconds=1.5, objects=3, kept=False))
    (line,) = lines_in(tmp_path)
    assert list(line) == ["time", "run", "event", "slide", "seconds", "objects", "kept"]
    assert (line["event"], line["slide"]) == ("slide_done", "S1")
    assert (line["seconds"], line["objects"], line["kept"]) == (1.5, 3, False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert abs((datetime.fromisoformat(line["time"]) - before).total_seconds()) < 60


def test_runs_follow_each_other_and_have_their_own_names(tmp_path: Path) -> None:
    for _ in range(2):
        with EventLog(tmp_path) as log:
            log.hear(event("run_started", ""))
            log.hear(event("run_done", ""))
    runs = [line["run"] for line in lines_in(tmp_path)]
    assert runs[0] == runs[1]
    assert runs[2] == runs[3]
    assert runs[0] != runs[2]


def test_an_event_is_there_before_the_next(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        for number in range(3):
            log.hear(event(steps=number))
            assert [line["steps"] for line in lines_in(tmp_path)] == list(range(number + 1))


def test_tiles_are_not_logged(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.hear(event("tiles_done", tiles=4))
        log.hear(event("region_done", row=0, col=1, tiles=4))
    assert [line["event"] for line in lines_in(tmp_path)] == ["region_done"]


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for step in range(50):
            log.hear(event(slide=f"S{number}", steps=step, note="x" * 500))

    with EventLog(tmp_path) as log:
        threads = [Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = lines_in(tmp_path)
    assert len(lines) == 400
    for number in range(8):
        own = [line["steps"] for line in lines if line["slide"] == f"S{number}"]
        assert own == list(range(50))


@pytest.mark.parametrize("left", [b'{"time":', b'{"a":1}\n{"time"'])
def test_a_line_that_a_power_cut_left_is_ended(tmp_path: Path, left: bytes) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(left)
    for _ in range(2):
        with EventLog(tmp_path) as log:
            log.hear(event())
    text = (tmp_path / EVENTS_FILE).read_bytes()
    assert text.startswith(left + b"\n")
    assert [line["event"] for line in lines_of(text[len(left) + 1 :])] == ["stage_done"] * 2


def test_a_whole_line_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).write_bytes(b'{"a":1}\n')
    with EventLog(tmp_path) as log:
        log.hear(event())
    assert [line.get("a") for line in lines_in(tmp_path)] == [1, None]


def test_names_that_are_no_text_and_numbers_of_arrays_are_logged(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x94\xac\n[red]")
    with EventLog(tmp_path) as log:
        log.hear(event(slide=name, error=name, objects=int_of_array(), seconds=float("nan")))
    (line,) = lines_in(tmp_path)
    assert line["slide"] == line["error"] == "caf\ufffd \U0001f52c\n[red]"
    assert line["objects"] == 7
    assert line["seconds"] is None


def int_of_array() -> Any:
    return np.array([7], dtype=np.int64)[0]


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).symlink_to("/dev/full")
    with EventLog(tmp_path) as log, pytest.raises(OutputError, match="No space left") as caught:
        log.hear(event())
    assert EVENTS_FILE in str(caught.value)


def test_a_disk_that_fills_up_in_a_line_leaves_the_lines_that_follow_whole(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.hear(event(steps=1))
        length = (tmp_path / EVENTS_FILE).stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (length + 20, hard))
        try:
            with pytest.raises(OutputError, match="No space left"):
                log.hear(event(steps=2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.hear(event(steps=3))
        log.hear(event(steps=4))
    whole, torn, *others = (tmp_path / EVENTS_FILE).read_bytes().splitlines(keepends=True)
    assert len(whole) == length
    assert len(torn) == 20 + len(b"\n")
    assert [line["steps"] for line in lines_of(b"".join(others))] == [3, 4]


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        EventLog(tmp_path / "none").__enter__()


def test_what_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    with EventLog(tmp_path) as log:
        log.hear(event())
    # Its number may be another file's by now.
    (tmp_path / "other").write_bytes(b"")
    other = os.open(tmp_path / "other", os.O_WRONLY)
    try:
        with pytest.raises(OutputError, match=os.strerror(errno.EBADF)):
            log.hear(event())
    finally:
        os.close(other)
    assert (tmp_path / "other").read_bytes() == b""


def stored_lines(folder: UPath) -> list[Line]:
    """What another program finds."""
    place = UPath(str(folder), endpoint_url=os.environ["AWS_ENDPOINT_URL"]) / EVENTS_FILE
    return lines_of(place.read_bytes())


def test_a_store_has_the_lines_whenever_a_slide_or_the_run_ends(store: UPath) -> None:
    with EventLog(store) as log:
        log.hear(event("slide_started"))
        log.hear(event("slide_failed", error="damaged"))
        assert [line["event"] for line in stored_lines(store)] == ["slide_started", "slide_failed"]
        log.hear(event("slide_started", "S2"))
        assert len(stored_lines(store)) == 2
        log.hear(event("slide_done", "S2"))
        assert len(stored_lines(store)) == 4
        log.hear(event("run_stopped", ""))
        assert len(stored_lines(store)) == 5
        log.hear(event("stage_done"))
    assert len(stored_lines(store)) == 6


def test_a_store_keeps_the_lines_of_earlier_runs(store: UPath) -> None:
    for _ in range(2):
        with EventLog(store) as log:
            log.hear(event("run_done", ""))
    assert len({line["run"] for line in stored_lines(store)}) == 2


def test_a_store_that_refuses_is_an_output_error(
    store: UPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    log = EventLog(UPath("s3://no-such-bucket/out"))
    log.__enter__()
    with pytest.raises(OutputError, match="no-such-bucket"):
        log.hear(event("slide_done"))
    with pytest.raises(OutputError, match="no-such-bucket"):
        log.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []
