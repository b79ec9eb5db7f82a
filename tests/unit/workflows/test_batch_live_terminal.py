import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIMIT_S = 120

# A run that goes on until it is told to end.
RUN = """
import sys, threading
from slideloom.workflows.batch.live import LiveTable
from slideloom.workflows.events import Event

over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), over.set()), daemon=True).start()
with LiveTable() as table:
    def tell(kind, slide="", **facts):
        table.hear(Event(kind=kind, slide=slide, facts=facts))
    tell("run_started", slides=3)
    tell("slide_started", "SLIDE" * 10, path="x")
    tell("slide_planned", "SLIDE" * 10, tiles=10**6, regions=9, regions_kept=0, anew="")
    tell("stage_started", "SLIDE" * 10, stage="predict", steps=10**6)
    while not over.wait(0.05):
        tell("tiles_done", "SLIDE" * 10, tiles=10)
print("live" if table.live else "lines", flush=True)
"""


def plain_lines(text: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]


def resize(terminal: int, *, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def read_until(terminal: int, done: Callable[[str], bool]) -> str:
    text = ""
    while not done(text):
        assert select.select([terminal], [], [], LIMIT_S)[0], text
        text += os.read(terminal, 1 << 16).decode()
    return text


@contextmanager
def running(*, term: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The run on a terminal of its own of 100 columns."""
    terminal, theirs = pty.openpty()
    resize(terminal, columns=100)
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": term},
    ) as process:
        os.close(theirs)
        try:
            yield terminal, process
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()
            os.close(terminal)


def frames(text: str) -> int:
    return text.count("predict")


def test_the_table_follows_the_width_of_a_real_terminal() -> None:
    with running(term="xterm-256color") as (terminal, process):
        read_until(terminal, lambda text: frames(text) > 3)
        resize(terminal, columns=40)
        process.send_signal(signal.SIGWINCH)
        # The one that was drawn meanwhile may have the old width.
        read_until(terminal, lambda text: frames(text) > 1)
        narrow = read_until(terminal, lambda text: frames(text) > 3)
        os.write(terminal, b"\n")
        rest = read_until(terminal, lambda text: "live" in text)
    rows = plain_lines(narrow.replace("\r", "\n"))[1:-1]
    assert any(row.startswith("SLIDE") for row in rows)
    assert max(len(row) for row in rows) <= 40
    assert "Traceback" not in narrow + rest


def test_a_dumb_terminal_gets_lines() -> None:
    with running(term="dumb") as (terminal, _):
        text = read_until(terminal, lambda text: "started" in text)
        os.write(terminal, b"\n")
        text += read_until(terminal, lambda text: "lines" in text)
    assert "(1 of 3): started" in text
    assert "\x1b" not in text


def test_a_file_gets_lines_whatever_the_environment_says() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input="\n",
        capture_output=True,
        text=True,
        env={**os.environ, "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"},
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stdout == "lines\n"
    assert re.fullmatch(r"[\d :-]+ (SLIDE){10} \(1 of 3\): started\n", done.stderr)
