"""The peak of memory is this process's own."""

import subprocess
import sys

import numpy as np

from slideloom.workflows.memory import peak_memory_mb

CHILD = "from slideloom.workflows.memory import peak_memory_mb; print(peak_memory_mb())"


def test_the_peak_grows_with_what_was_held() -> None:
    before = peak_memory_mb()
    held = np.ones(int(before * 1e6 / 8) + 10_000_000)
    assert peak_memory_mb() > before
    del held
    after = peak_memory_mb()
    assert after > before
    # A process that is started by a large one is not large itself.
    child = subprocess.run(
        [sys.executable, "-c", CHILD], check=True, capture_output=True, text=True
    )
    assert 5 < float(child.stdout) < after
