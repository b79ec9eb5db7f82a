"""What a run leaves in a folder, without what differs from one run to the next."""

from __future__ import annotations

import csv
import io
import json
from hashlib import sha256
from pathlib import Path

from slideloom.workflows.batch.event_log import EVENTS_FILE
from slideloom.workflows.batch.outcomes import TRACEBACK_FILE
from slideloom.workflows.result import MANIFEST_FILE, RECORD_FILE, REPORT_FILE

_TIMED = ("seconds", "peak_memory_mb")
_OF_ONE_START = (EVENTS_FILE, TRACEBACK_FILE)


def run_files(out: Path) -> dict[str, str]:
    """Hashes of all files by their path in a batch's folder, hidden ones too.

    Times and memory are left out of records and of manifests. Of pages, which are full of times,
    only the presence is told. The event log and tracebacks are left out, and so is what a slide
    that fails leaves: the regions that happened to be finished before.
    """
    failed = {path.parent for path in out.glob(f"*/{TRACEBACK_FILE}")}
    return {
        path.relative_to(out).as_posix(): _hash(path)
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in _OF_ONE_START and failed.isdisjoint(path.parents)
    }


def _hash(path: Path) -> str:
    if path.name == REPORT_FILE:
        return "a page"
    raw = path.read_bytes()
    if path.name == RECORD_FILE:
        record = json.loads(raw)
        for name in _TIMED:
            del record[name]
        raw = json.dumps(record, sort_keys=True).encode()
    elif path.name == MANIFEST_FILE:
        rows = list(csv.DictReader(io.StringIO(raw.decode())))
        for row in rows:
            for name in _TIMED:
                del row[name]
        raw = json.dumps(rows).encode()
    return sha256(raw).hexdigest()
