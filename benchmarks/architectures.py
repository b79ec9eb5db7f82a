"""Try every architecture, from building to a slide: `python -m benchmarks.architectures`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.architectures_papers import PAPERS
from benchmarks.architectures_run import NAMES, Tried, try_architecture
from slideloom.models.architectures import ARCHITECTURES, CLASSIFIERS
from slideloom.models.detectors import DETECTORS

_HEAD = (
    "| architecture | task | encoder here | parameters, M | paper | built by | loss "
    "| CPU seconds |\n"
    "| --- | --- | --- | ---: | --- | --- | ---: | ---: |"
)

_PAGE = """# Architectures

Any of these can stand in a `model.json`, and in the settings of `slideloom train`. This page is
written by `python -m benchmarks.architectures --markdown docs/architectures-table.md`, which builds
each of them, trains it for some steps on a small picture, saves it, loads it, and runs it on a
slide. Most are on the smallest encoder here, so the parameters are not those of the paper.

"""


def built_by(name: str) -> str:
    """Whose code the network is."""
    if name in DETECTORS:
        return "torchvision"
    builder = {**ARCHITECTURES, **CLASSIFIERS}[name]
    if builder.__module__.startswith("slideloom."):
        return "timm" if name == "Timm" else "slideloom"
    return "segmentation-models-pytorch"


def table(tried: Sequence[Tried]) -> str:
    """The table of all architectures that were tried, in Markdown."""
    return "\n".join([_HEAD, *(_row(one) for one in tried)])


def _row(one: Tried) -> str:
    paper = PAPERS[one.name]
    cells = [
        f"`{one.name}`",
        one.task,
        f"`{one.encoder}`",
        f"{one.parameters / 1e6:.2f}",
        f"{paper.authors}, {paper.title}, {paper.venue}",
        built_by(one.name),
        f"{one.loss_before:.2f} → {one.loss_after:.2f}",
        f"{one.cpu_s:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Read the command line, try the architectures one after another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all of them by default")
    parser.add_argument("--markdown", type=Path, help="file for a page with the table")
    given = parser.parse_args()
    tried = []
    for name in given.names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            tried.append(try_architecture(name, Path(folder)))
        print(_row(tried[-1]), flush=True)
    print(f"\n{table(tried)}")
    if given.markdown is not None:
        given.markdown.write_text(f"{_PAGE}{table(tried)}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
