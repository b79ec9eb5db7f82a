"""Ctrl-C and SIGTERM: the first asks a run to end, the second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from slideloom.workflows.control import StopFlag

__all__ = ["STOPPING", "stop_on_signals"]

STOPPING = (
    "stopping after the regions in work; press Ctrl-C again to stop at once; "
    "the same command goes on from here"
)
_ASKING = (signal.SIGINT, signal.SIGTERM)
_STDERR = 2


@contextmanager
def stop_on_signals(flag: StopFlag, *, tell: bool = True) -> Iterator[None]:
    """Request `flag` at the first SIGINT or SIGTERM while the block lasts.

    Schedulers of clusters send SIGTERM some time before they kill. A SIGTERM that follows asks for
    no more than the first; a SIGINT that follows raises KeyboardInterrupt in the main thread.
    The handlers that were there before are back after the block. Outside the main thread, where
    Python takes no handlers, this does nothing; and a signal that is ignored stays so.

    Args:
        flag: Requested at the first signal.
        tell: Whether to say so on standard error; not where a live table does.

    Raises:
        KeyboardInterrupt: At a SIGINT after the first signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        # Noted first: another signal may come while this one is handled.
        if not asked:
            asked = True
            flag.request()
            if tell:
                _say(STOPPING)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    # What the shell told a job in the background to ignore stays ignored.
    asking = [number for number in _ASKING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in asking}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not set from Python, which it cannot set again.
            if handler is not None:
                signal.signal(number, handler)


def _say(text: str) -> None:
    """One line on standard error, though the signal may have come while its buffer was locked."""
    # Nobody may read it: the terminal may be closed.
    with suppress(OSError):
        os.write(_STDERR, f"\nslideloom: {text}\n".encode())
