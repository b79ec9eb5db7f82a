"""Disks that fill up and folders that lose their permissions: one sentence, and then it goes on."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from slideloom.workflows.result import RECORD_FILE, WORK_FOLDER
from slideloom.wsi import Size
from tests.makers.batch_folder import write_model, write_sound
from tests.makers.chaos import PATIENCE_S, Batch, done_slides, finished_regions
from tests.makers.disks import SmallDisk, bound_by_permissions, can_have_disks, used_bytes
from tests.makers.killable import Host
from tests.makers.run_files import run_files

SIZES = (Size(width=430, height=370), Size(width=300, height=420), Size(width=330, height=300))
REGION_PX = 192
STEPS = 24
"""In how many steps a disk grows from nearly nothing to more than a run takes."""

pytestmark = pytest.mark.slow


def make_batch(host: Host, folder: Path) -> Batch:
    return Batch(
        host,
        write_sound(folder / "slides", SIZES),
        model=write_model(folder / "model", "instance"),
        folder=folder,
        region_px=REGION_PX,
        extra=["--format=geojson,csv,ome-tiff"],
    )


def run(batch: Batch, out: Path) -> int:
    batch.start(out)
    code = batch.host.ended(within=PATIENCE_S)
    assert code is not None
    return code


def check_sentence(said: str, fault: str) -> None:
    """Each complaint says what, why and what to do; none is taken for a fault of the program."""
    complaints = [line for line in said.splitlines() if line.startswith("slideloom: ")]
    told = [line for line in complaints if fault in line]
    assert told, said
    for line in told:
        assert re.search(r"cannot write (to )?'.+' \(.+\): (check that|choose)", line), line
    assert "Traceback" not in said
    assert "fault of slideloom" not in said


def test_a_disk_that_is_full_again_and_again(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_have_disks(disk):
        pytest.skip("this system lets nobody have a disk of their own")
    small = SmallDisk(disk, size=2**28)
    with Host(small.prefix) as host:
        batch, seen = make_batch(host, tmp_path), small.seen_by(host.pid)
        assert run(batch, tmp_path / "whole") == 0, batch.said
        expected = run_files(tmp_path / "whole")
        # Regions and tables in the making take more than what is left.
        most = 2 * used_bytes(tmp_path / "whole")
        failures = 0
        for step in range(1, STEPS + 1):
            small.resize(host.pid, size=most * step // STEPS)
            out = seen / "out"
            finished, done = finished_regions(out), done_slides(out)
            code = run(batch, disk / "out")
            worked_on = batch.worked_on()
            assert not worked_on & finished.keys()
            assert not {place.slide for place in worked_on} & done
            check_whole_slides(run_files(out), expected, done_slides(out))
            if code == 0:
                break
            failures += 1
            check_sentence(batch.said, "No space left on device")
            # The slides behind would fail alike, so they are not tried; two may be at work.
            assert batch.said.count(": failed, ") < len(SIZES)
        assert failures > 3
        assert run_files(seen / "out") == expected


def check_whole_slides(files: dict[str, str], expected: dict[str, str], done: set[str]) -> None:
    """What a slide's record vouches for is as it should be; formats may come later."""
    for name, content in files.items():
        if name.split("/")[0] in done and not name.endswith(".part"):
            assert expected.get(name) == content, name


def test_a_folder_that_may_no_longer_be_written_to(tmp_path: Path) -> None:
    with Host(bound_by_permissions()) as host:
        batch = make_batch(host, tmp_path)
        assert run(batch, tmp_path / "whole") == 0, batch.said
        out = tmp_path / "out"
        batch.start(out)
        store = wait_for_region(out)
        store.chmod(0o500)
        assert host.ended(within=PATIENCE_S) == 1
        check_sentence(batch.said, "Permission denied")
        assert not (out / store.relative_to(out).parts[0] / RECORD_FILE).exists()
        finished = finished_regions(out)
        assert finished
        out.chmod(0o500)
        assert run(batch, out) == 2
        check_sentence(batch.said, "Permission denied")
        for folder in (out, store):
            folder.chmod(0o700)
        assert run(batch, out) == 0
        assert not batch.worked_on() & finished.keys()
        assert run_files(out) == run_files(tmp_path / "whole")


def wait_for_region(out: Path) -> Path:
    """The folder of the first slide's regions, once one is there."""
    last = time.monotonic() + PATIENCE_S
    while time.monotonic() < last:
        for path in out.glob(f"*/{WORK_FOLDER}/*/region-*"):
            return path.parent
        time.sleep(0.001)
    pytest.fail("no region was finished")
