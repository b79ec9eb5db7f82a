"""The log of a run for programs: one JSON object in each line of `events.jsonl`."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import TracebackType

import orjson

from slideloom.workflows.events import Event, Fact
from slideloom.workflows.export.atomic import writing_to
from slideloom.wsi.storage import Folder, read_object, upload

__all__ = ["EVENTS_FILE", "EventLog"]

EVENTS_FILE = "events.jsonl"
_NOT_LOGGED = ("tiles_done",)
"""Comes several times a second, and what it counts is in `region_done` too."""
_SENT_AT = ("slide_done", "slide_failed", "run_stopped", "run_done")
_CLOSED = -1


class EventLog:
    """Appends the events of one command to `events.jsonl`; runs that follow append to it too.

    Each line has `time` (UTC, ISO 8601, milliseconds), `run` (the same for all lines of one
    command), `event`, `slide` and the facts of `EventKind`. A line is written in one piece, so a
    killed process leaves whole lines; what a power cut left of a line is ended by the next run.
    Object stores cannot append: there the file is kept aside and sent whole when a slide or the
    run has ended, so a killed process loses the lines since.

    Args:
        folder: Of the run, local or behind a URL; it has to be there.

    Raises:
        OutputError: The file cannot be written; also from `hear`.
    """

    def __init__(self, folder: Folder) -> None:
        self._place = folder / EVENTS_FILE
        self._run = secrets.token_hex(4)
        self._lock = Lock()
        self._stack = ExitStack()
        self._path = Path()
        self._handle = _CLOSED
        self._torn = False

    def __enter__(self) -> EventLog:
        with ExitStack() as stack:
            self._path = self._local_path(stack)
            with writing_to(self._path):
                self._handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
                stack.callback(os.close, self._handle)
                self._torn = _ends_torn(self._handle)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock, self._stack:
            # What comes too late shall not go to another file that gets the same number.
            self._handle = _CLOSED
            self._send()

    def hear(self, event: Event) -> None:
        """Write one event; called from several threads.

        Raises:
            OutputError: The disk is full, or the like.
        """
        if event.kind in _NOT_LOGGED:
            return
        with self._lock:
            self._append(_line(event, run=self._run))
            if event.kind in _SENT_AT:
                self._send()

    def _local_path(self, stack: ExitStack) -> Path:
        """Where lines are written: in place, or aside in a copy of what is behind the URL."""
        if isinstance(self._place, Path):
            return self._place
        path = Path(stack.enter_context(TemporaryDirectory(prefix="slideloom-")), EVENTS_FILE)
        with suppress(FileNotFoundError):
            path.write_bytes(read_object(self._place))
        return path

    def _append(self, line: bytes) -> None:
        with writing_to(self._path):
            data = b"\n" + line if self._torn else line
            written = os.write(self._handle, data)
            if written < len(data):
                self._torn = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._torn = False

    def _send(self) -> None:
        if not isinstance(self._place, Path):
            upload(self._path, self._place)


def _line(event: Event, *, run: str) -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = {name: _text(fact) for name, fact in event.facts.items()}
    line = {"time": time, "run": run, "event": event.kind, "slide": _text(event.slide), **facts}
    # Counts that come from arrays are NumPy's.
    return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _text(fact: Fact) -> Fact:
    """The same with U+FFFD for bytes of a file name that are no text, which JSON cannot hold."""
    if isinstance(fact, str):
        return fact.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return fact


def _ends_torn(handle: int) -> bool:
    """Whether the last line of a file has no end."""
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"
