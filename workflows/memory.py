"""How much memory this process has needed."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MB; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's `ru_maxrss` may be that of the process that started this one.
        lines = status.read_text(encoding="ascii").splitlines()
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
        return round(peaks[0] * 1024 / 1e6, 1) if peaks else float("nan")
    if sys.platform == "win32":
        return float("nan")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
