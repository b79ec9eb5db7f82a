"""What all formats that are made of masks refuse."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slideloom.errors import OutputError, SettingsError
from slideloom.workflows.export.ngff_04 import write_ngff_04
from slideloom.workflows.export.ome_tiff import write_ome_tiff
from slideloom.workflows.result import SlideResult
from tests.makers.masked_results import MaskKind, retold

Write = Callable[[SlideResult, Path], None]
WRITERS = [(write_ngff_04, "a.ome.zarr"), (write_ome_tiff, "a.ome.tif")]


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize(
    ("task", "held"), [("detection", "boxes or points"), ("classification", "classes of tiles")]
)
def test_results_without_masks_are_refused(
    masked_results: dict[MaskKind, SlideResult],
    tmp_path: Path,
    task: str,
    held: str,
    write: Write,
    name: str,
) -> None:
    result = retold(masked_results["objects"], task=task, name="found")
    words = rf"holds {held} of model 'found' \({task}\): choose a format of objects"
    with pytest.raises(SettingsError, match=words):
        write(result, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_masks_that_were_removed_are_missed(
    masked_results: dict[MaskKind, SlideResult], tmp_path: Path, write: Write, name: str
) -> None:
    result = SlideResult(folder=tmp_path, record=masked_results["objects"].record)
    with pytest.raises(OutputError, match="there are no labels"):
        write(result, tmp_path / name)
    assert not list(tmp_path.iterdir())
