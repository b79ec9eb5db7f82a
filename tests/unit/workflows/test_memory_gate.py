"""Where memory is short, a region waits until another one has ended; one alone never waits."""

from __future__ import annotations

import pickle
import threading

import pytest

from slideloom.workflows import memory_gate
from slideloom.workflows.memory_gate import MemoryGate, resident_bytes


class Regions:
    """Threads that pass a gate and stay inside until they are let go."""

    def __init__(self, gate: MemoryGate, count: int) -> None:
        self.gate = gate
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.threads = [threading.Thread(target=self._pass) for _ in range(count)]

    def _pass(self) -> None:
        with self.gate:
            self.entered.release()
            self.leave.acquire(timeout=60)

    def inside(self, count: int) -> bool:
        """Whether `count` more came in, and nobody else within a moment."""
        came = all(self.entered.acquire(timeout=60) for _ in range(count))
        return came and not self.entered.acquire(timeout=0.2)

    def __enter__(self) -> Regions:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave.release(len(self.threads))
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)


def test_all_pass_while_there_is_room() -> None:
    with Regions(MemoryGate(100 * resident_bytes()), 3) as regions:
        assert regions.inside(3)


def test_without_a_ceiling_all_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_gate, "resident_bytes", lambda: 10**15)
    with Regions(MemoryGate(None), 3) as regions:
        assert regions.inside(3)


def test_one_at_a_time_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_gate, "resident_bytes", lambda: 950)
    with Regions(MemoryGate(1000), 3) as regions:
        assert regions.inside(1)
        regions.leave.release()
        assert regions.inside(1)
        regions.leave.release()
        assert regions.inside(1)


def test_an_error_inside_leaves_the_gate() -> None:
    gate = MemoryGate(1)
    with pytest.raises(ValueError, match="inside"), gate:
        raise ValueError("inside")
    with gate:
        pass


def test_a_gate_travels_to_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = MemoryGate(1000)
    with gate:
        copy = pickle.loads(pickle.dumps(gate))
    monkeypatch.setattr(memory_gate, "resident_bytes", lambda: 950)
    with Regions(copy, 2) as regions:
        assert regions.inside(1)
