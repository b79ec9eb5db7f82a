"""What travels to workers: unpickled once, with the model apart, and paths that hold anywhere."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

import pytest

from slideloom.workflows.cluster import packing
from slideloom.workflows.cluster.packing import pack

LOADED: list[str] = []


@dataclass(kw_only=True)
class _Model:
    name: str

    def __setstate__(self, state: dict[str, str]) -> None:
        sleep(0.05)
        LOADED.append(state["name"])
        self.__dict__.update(state)


@dataclass(kw_only=True)
class _Job:
    model: _Model
    out: Path = field(default_factory=Path)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_KEEPER", packing._Keeper())
    LOADED.clear()


def _unpack(job: _Job) -> _Job:
    unpacked = pack(job, apart=(job.model,)).unpack()
    assert isinstance(unpacked, _Job)
    return unpacked


def test_the_same_content_is_unpickled_once() -> None:
    first, second = (pack(_Model(name="same")) for _ in range(2))
    assert first.digest == second.digest
    assert first.unpack() is second.unpack()
    assert LOADED == ["same"]


def test_threads_that_ask_at_one_time_share_one() -> None:
    packed = pack(_Model(name="shared"))
    with ThreadPoolExecutor(4) as pool:
        things = list(pool.map(lambda _: packed.unpack(), range(4)))
    assert all(thing is things[0] for thing in things)
    assert LOADED == ["shared"]


def test_a_model_stays_from_job_to_job() -> None:
    model = _Model(name="net")
    jobs = [_unpack(_Job(model=model, out=Path(f"/out/{number}"))) for number in range(20)]
    assert [job.out.name for job in jobs] == [str(number) for number in range(20)]
    assert all(job.model is jobs[0].model for job in jobs)
    assert jobs[0].model is not model
    assert LOADED == ["net"]


def test_what_is_long_unused_is_not_kept() -> None:
    _unpack(_Job(model=_Model(name="first")))
    for number in range(packing._KEPT):
        pack(f"thing {number}").unpack()
    _unpack(_Job(model=_Model(name="first")))
    assert LOADED == ["first", "first"]


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packed = pack([Path("slides/a.svs"), Path("/out"), "text"])
    monkeypatch.chdir(os.sep)
    assert packed.unpack() == [tmp_path / "slides" / "a.svs", Path("/out"), "text"]


def test_a_class_of_a_script_travels_with_its_code() -> None:
    place: dict[str, type] = {}
    exec("class Local:\n    __module__ = '__main__'\n    def answer(self): return 42", place)
    thing = pack(place["Local"]()).unpack()
    assert type(thing).__name__ == "Local"
    assert b"answer" in pack(place["Local"]()).data
