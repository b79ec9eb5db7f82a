"""The page on workflow engines: its commands parse, and its Snakemake rule runs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from slideloom.testing import make_slide
from slideloom.workflows.cli import app
from slideloom.wsi import Size

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "workflow-engines.md"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def block(title: str) -> str:
    """The text of the code block with that title."""
    found = re.search(rf'```\w+ title="{title}"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def command_lines() -> list[list[str]]:
    """The words after `slideloom` of each command on the page, with values in place of fields."""
    text = PAGE.read_text().replace("\\\\\n", " ").replace("\\\n", " ")
    # Snakemake joins texts that stand beneath each other.
    text = re.sub(r'"\n +"', "", text)
    text = re.sub(r"\$?\{[^}]*(threads|cpus)[^}]*\}", "4", text)
    text = re.sub(r"\$?\{[^}]*(mem_mb|memory)[^}]*\}", "6000", text)
    text = re.sub(r"\$?\{[^}]*\}", "field", text)
    lines = re.findall(r'\bslideloom (run [^`\n]*--model .*?)(?: > .*)?"?$', text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_the_commands_of_the_page_parse() -> None:
    lines = command_lines()
    assert [line[1] for line in lines] == ["slides.csv", "field", "field", "slides"]
    # Newer typer brings a click of its own, so the group's type has no one name.
    command: Any = typer.main.get_command(app)
    for words in lines:
        # Parses all options; what is unknown or lacks a value is an error.
        with command.make_context("slideloom", list(words)) as context:
            name, sub, rest = command.resolve_command(context, words)
            with sub.make_context(name, rest, parent=context) as parsed:
                assert parsed.params["model"]
                assert parsed.params["out"]


def test_the_image_is_made_of_what_the_package_is_made_of() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", DOCKERFILE.read_text(), re.MULTILINE))
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert copied == folders - {"tests", "benchmarks"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("snakemake") is None, reason="needs snakemake")
def test_the_snakemake_rule_runs_each_slide_and_all_others_when_one_fails(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(block("Snakefile").replace("retries: 2", "retries: 0"))
    (tmp_path / "slides").mkdir()
    size = Size(width=600, height=500)
    make_slide(tmp_path / "slides" / "a b.tif", size=size, mpp=0.5, seed=1)
    (tmp_path / "slides" / "broken.tif").write_bytes(b"II*\0" + bytes(99))
    (tmp_path / "slides.csv").write_text(
        "path,id\nslides/a b.tif,case-1\nslides/broken.tif,case-2\n"
    )
    assert snakemake(tmp_path).returncode == 1
    assert (tmp_path / "results" / "case-1" / "a b" / "result.json").is_file()
    assert not (tmp_path / "results" / "counts.csv").exists()
    assert "broken" in (tmp_path / "logs" / "case-2.log").read_text()
    before = (tmp_path / "results" / "case-1" / "a b" / "result.json").stat().st_mtime_ns
    (tmp_path / "slides.csv").write_text("path,id\nslides/a b.tif,case-1\n")
    (tmp_path / "results" / "case-1" / "counts.csv").unlink()
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stderr
    after = (tmp_path / "results" / "case-1" / "a b" / "result.json").stat().st_mtime_ns
    assert after == before
    counts = (tmp_path / "results" / "counts.csv").read_text()
    assert counts == (tmp_path / "results" / "case-1" / "counts.csv").read_text()


def snakemake(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the rule with the `slideloom` of this environment."""
    programs = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        [str(shutil.which("snakemake")), "--cores", "2", "--keep-going"],
        cwd=folder,
        env={"PATH": programs, "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
