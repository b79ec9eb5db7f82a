"""Imports go down only: import-linter's contracts hold over the checkout."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of pyproject.toml over the package `slideloom` in `tree`."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tree), "NO_COLOR": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def link_package(tree: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".ci/link_package.py", tree], check=True)


def test_imports_go_down_only(tmp_path: Path) -> None:
    link_package(tmp_path)
    done = lint(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contracts_notice_an_import_that_goes_up(tmp_path: Path) -> None:
    link_package(tmp_path)
    upward = tmp_path / "slideloom" / "wsi" / "upward.py"
    upward.write_text(
        '"""Breaks two contracts."""\n\nimport torch\n\nimport slideloom.models.spec\n'
    )
    done = lint(tmp_path)
    assert done.returncode == 1
    assert "Imports go down only BROKEN" in done.stdout
    assert "Reading and tiling need no torch BROKEN" in done.stdout
