import math
import subprocess
import sys
from pathlib import Path

import pytest

from slideloom.workflows.batch import memory_use
from slideloom.workflows.batch.memory_use import Memory, memory_mb

# A process whose child holds 60 MB.
HOLD = """
import subprocess, sys
child = "import sys; held = bytearray(60_000_000); print('held', flush=True); sys.stdin.readline()"
subprocess.run([sys.executable, "-c", child])
"""


def test_processes_that_this_one_started_count_with_theirs() -> None:
    before = memory_mb()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        during = memory_mb()
        process.communicate(b"\n")
    assert during - before > 60
    assert memory_mb() < during - 50


def test_this_process_holds_what_the_system_says() -> None:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (held,) = [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    # pytest may have children of other tests.
    assert memory_mb() > 0.9 * held * 1024 / 1e6


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    sizes: list[float] = []
    monkeypatch.setattr(memory_use, "memory_mb", lambda: sizes.pop(0))
    monkeypatch.setattr(memory_use, "peak_memory_mb", lambda: 700.0)
    return sizes


def test_the_peak_is_remembered_and_looks_are_rare(sizes: list[float]) -> None:
    now = 5.0
    memory = Memory(lambda: now)
    sizes += [600.0, 2345.0, 800.0]
    assert memory.text() == "memory 600 MB, at its peak 700 MB"
    now += memory_use.LOOK_S / 2
    assert memory.text() == "memory 600 MB, at its peak 700 MB"
    now += memory_use.LOOK_S
    assert memory.text() == "memory 2.3 GB, at its peak 2.3 GB"
    now += memory_use.LOOK_S
    assert memory.text() == "memory 800 MB, at its peak 2.3 GB"


def test_a_system_that_does_not_tell_is_not_asked_to(sizes: list[float]) -> None:
    sizes.append(math.nan)
    assert Memory(lambda: 0.0).text() == ""
