"""Without its library the format says what to install."""

import sys
from pathlib import Path

import pytest

from slideloom.errors import SettingsError
from slideloom.workflows.export import EXPORTERS, ResultExporter
from slideloom.workflows.export.spatialdata import write_spatialdata
from tests.makers.finished_result import finished_result, squares


def test_without_the_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spatialdata", None)
    result = finished_result(tmp_path / "made", squares(3))
    with pytest.raises(SettingsError, match=r"slideloom\[spatialdata\]"):
        write_spatialdata(result, tmp_path / "a.zarr")
    assert [item.name for item in tmp_path.iterdir()] == ["made"]


def test_the_format_says_what_it_needs() -> None:
    exporter = EXPORTERS["spatialdata"]
    assert isinstance(exporter, ResultExporter)
    assert exporter.packages == ("spatialdata",)
    assert exporter.extra == "spatialdata"
