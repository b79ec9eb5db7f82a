import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock, Thread

import pytest

from slideloom.workflows.batch.stopping import STOPPING, stop_on_signals
from slideloom.workflows.control import StopFlag

LIMIT_S = 120

# What the block of a run does: work in small steps until it is asked to end.
RUN = """
import sys, time
from slideloom.workflows.batch.stopping import stop_on_signals
from slideloom.workflows.control import StopFlag

flag = StopFlag()
try:
    with stop_on_signals(flag):
        print("working", flush=True)
        while not flag.requested:
            time.sleep(0.01)
        print("finishing", flush=True)
        time.sleep(1000 if "long" in sys.argv else 0)
        print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture(autouse=True)
def usual_handlers() -> Iterator[None]:
    """As in the foreground: a shell starts jobs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_that_is_ignored_stays_so() -> None:
    flag = StopFlag()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signals(flag, tell=False):
        asked = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            asked.append(flag.requested)
    assert asked == [False, True]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_first_signal_asks_and_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        flag = StopFlag()
        with stop_on_signals(flag):
            signal.raise_signal(number)
            assert flag.requested
        said = capfd.readouterr()
        assert said.out == ""
        assert said.err == f"\nslideloom: {STOPPING}\n"


def test_a_live_table_says_it_itself(capfd: pytest.CaptureFixture[str]) -> None:
    flag = StopFlag()
    with stop_on_signals(flag, tell=False):
        signal.raise_signal(signal.SIGTERM)
    assert flag.requested
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_ctrl_c_that_follows_ends_at_once(first: signal.Signals) -> None:
    flag = StopFlag()
    with stop_on_signals(flag, tell=False):
        signal.raise_signal(first)
        assert flag.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_sigterm_that_follows_asks_for_no_more() -> None:
    flag = StopFlag()
    with stop_on_signals(flag, tell=False):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert flag.requested


def test_the_handlers_before_are_back_after_the_block() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        flag = StopFlag()
        with pytest.raises(KeyError), stop_on_signals(flag):
            raise KeyError
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        assert not flag.requested
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_while_the_flag_is_set_does_not_hang() -> None:
    class Interrupted(StopFlag):
        """Ctrl-C comes while SIGTERM is handled, and the flag holds its lock."""

        lock = Lock()

        def request(self, reason: str = "") -> None:
            assert self.lock.acquire(blocking=False)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stop_on_signals(Interrupted(), tell=False):
        signal.raise_signal(signal.SIGTERM)


def test_in_other_threads_it_does_nothing() -> None:
    seen = []

    def work() -> None:
        with stop_on_signals(StopFlag()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = Thread(target=work)
    thread.start()
    thread.join(LIMIT_S)
    assert seen == [signal.default_int_handler]


def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "run.py"
    script.write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def test_a_process_finishes_what_is_in_work(tmp_path: Path) -> None:
    with begin(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (0, "finishing\nfinished\n")
    assert err.splitlines() == ["", f"slideloom: {STOPPING}"]


def test_a_process_ends_at_the_second_ctrl_c_though_nobody_reads_what_it_says(
    tmp_path: Path,
) -> None:
    with begin(tmp_path, "long") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "finishing\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(LIMIT_S) == 0
