"""The packages that pyproject.toml lists are the folders that hold code."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("api", "wsi", "tiling", "models", "postprocess", "workflows")


def setuptools_settings() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, Any] = settings["tool"]["setuptools"]
    return table


def package_of(folder: Path) -> str:
    """`workflows/export` -> `slideloom.workflows.export`; `api` is the root of the package."""
    parts = folder.relative_to(ROOT).parts
    return ".".join(("slideloom", *(parts[1:] if parts[0] == "api" else parts)))


def test_every_folder_of_code_is_listed_and_mapped() -> None:
    folders = sorted(file.parent for top in TOPS for file in (ROOT / top).rglob("__init__.py"))
    found = {package_of(folder): folder.relative_to(ROOT).as_posix() for folder in folders}
    settings = setuptools_settings()
    assert settings["package-dir"] == found
    assert sorted(settings["packages"]) == sorted(found)


def test_every_module_lies_in_a_package() -> None:
    outside = [
        file.relative_to(ROOT).as_posix()
        for top in TOPS
        for file in (ROOT / top).rglob("*.py")
        if not (file.parent / "__init__.py").exists()
    ]
    assert outside == []


def test_no_folder_shadows_the_installed_package() -> None:
    assert not (ROOT / "slideloom").exists()


def test_bare_layer_names_are_banned_for_every_top_folder() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert sorted(banned) == sorted(TOPS)


@pytest.mark.parametrize("package", setuptools_settings()["packages"])
def test_every_package_is_installed(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__file__ is not None
    assert Path(module.__file__).name == "__init__.py"


def test_the_package_says_that_it_is_typed() -> None:
    module = importlib.import_module("slideloom")
    assert module.__file__ is not None
    assert (Path(module.__file__).parent / "py.typed").is_file()


def test_the_packages_install_from_a_wheel_as_they_are_listed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / ".ci/link_package.py", tmp_path], check=True)
    for package in setuptools_settings()["packages"]:
        assert (tmp_path.joinpath(*package.split(".")) / "__init__.py").is_file()
