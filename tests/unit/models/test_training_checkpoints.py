from pathlib import Path

import pytest

from slideloom.models.spec import ModelSpec
from slideloom.models.training.checkpoints import Checkpoints, training_key
from slideloom.models.training.settings import FitSettings
from tests.makers.training_discs import DiscTiles


def kept(folder: Path, *, key: str) -> Checkpoints:
    checkpoints = Checkpoints(folder=folder)
    checkpoints.begin(key)
    checkpoints.next.write_bytes(b"state")
    checkpoints.keep(best=True)
    return checkpoints


def test_a_training_goes_on_only_with_its_own_key(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder=folder)
    assert checkpoints.begin("a") == "fresh"
    assert checkpoints.begin("a") == "fresh"
    kept(folder, key="a")
    assert checkpoints.begin("a") == "goes on"
    assert checkpoints.begin("b") == "changed"
    assert not checkpoints.last.exists()
    assert not checkpoints.best.exists()


def test_a_training_is_done_with_its_own_key_only(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path, key="a")
    assert not checkpoints.is_done("a")
    checkpoints.finish("a")
    assert checkpoints.is_done("a")
    assert not checkpoints.is_done("b")


def test_the_best_state_stays_when_a_worse_one_is_kept(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path, key="a")
    checkpoints.next.write_bytes(b"worse")
    checkpoints.keep(best=False)
    assert checkpoints.best.read_bytes() == b"state"
    assert checkpoints.last.read_bytes() == b"worse"


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "mine.ckpt"
    other.touch()
    Checkpoints(folder=tmp_path).begin("a")
    kept(tmp_path, key="b")
    assert other.exists()


def key_of(spec: ModelSpec, settings: FitSettings, *, seed: int = 0) -> str:
    tiles = DiscTiles(tiles=3, seed=seed, side_px=32)
    return training_key(spec, settings, train=tiles, validation=tiles, start=None)


def test_the_key_tells_trainings_apart_but_not_machines(spec: ModelSpec) -> None:
    key = key_of(spec, FitSettings())
    assert key == key_of(spec, FitSettings(device="cpu", workers=3, precision="float32"))
    assert key != key_of(spec, FitSettings(seed=1))
    assert key != key_of(spec, FitSettings(), seed=1)
    assert key != key_of(spec.model_copy(update={"mpp": 0.25}), FitSettings())


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_key_file_begins_afresh(tmp_path: Path, text: str) -> None:
    checkpoints = kept(tmp_path, key="a")
    (tmp_path / "training.json").write_text(text, encoding="utf-8")
    assert checkpoints.begin("a") == "fresh"
