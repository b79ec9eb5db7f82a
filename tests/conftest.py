"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines that run tests are shared, and the first call of a compiled loop takes seconds: cases
# are counted, not timed, and the same ones come in every run.
settings.register_profile("slideloom", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("slideloom")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real slides; the test skips (or fails, where CI demands it) without it."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SLIDELOOM_DATA", default))
    if not (folder / "slides").is_dir():
        reason = f"no real slides at {folder}: set SLIDELOOM_DATA"
        if os.environ.get("SLIDELOOM_REQUIRE_DATA") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
