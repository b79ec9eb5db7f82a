"""Graphs on a cluster, with its scheduler and workers in this process."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any
from uuid import uuid4

import pytest
from distributed import Client, LocalCluster

from slideloom import errors
from slideloom.errors import ClusterError, RunStoppedError, SlideFormatError, SlideNotFoundError
from slideloom.workflows.cluster import waiting
from slideloom.workflows.cluster.executor import Cluster
from slideloom.workflows.executing import Executor, Graph

BEGUN: dict[str, list[int]] = {}
ENDED: dict[str, list[int]] = {}
GO_ON = Event()


def _cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        worker_dashboard_address=None,
    )


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with _cluster(2) as cluster, Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def executor(client: Client) -> Executor:
    return Cluster(client, say=lambda text: None)


@pytest.fixture
def test() -> str:
    name = uuid4().hex
    BEGUN[name], ENDED[name] = [], []
    GO_ON.set()
    return name


def _first(test: str, number: int) -> None:
    BEGUN[test].append(number)
    assert GO_ON.wait(60)
    ENDED[test].append(number)


def _second(test: str, number: int, needed: list[None]) -> None:
    assert len(needed) == 2
    assert set(ENDED[test]) >= {number, number + 1}
    ENDED[test].append(-number)


def _wrong(test: str, number: int) -> None:
    msg = f"{number} is no slide"
    raise SlideFormatError(msg)


def _gone(test: str, number: int) -> None:
    msg = f"{number} is not there"
    raise SlideNotFoundError(msg)


def _graph(test: str, count: int) -> dict[str, Any]:
    graph: dict[str, Any] = {"job": test, "weaver": test}
    for number in range(count):
        graph[f"first-{number}"] = (_first, "job", number)
    for number in range(1, count - 1):
        needed = [f"first-{number}", f"first-{number + 1}"]
        graph[f"second-{number}"] = (_second, "weaver", number, needed)
    return graph


def test_every_task_runs_once_when_what_it_needs_has_run(executor: Executor, test: str) -> None:
    told: list[str] = []
    graph = _graph(test, 30)
    executor.run(graph, done=told.append)
    assert sorted(told) == sorted(set(graph) - {"job", "weaver"})
    assert sorted(ENDED[test]) == sorted([*range(30), *range(-28, 0)])


def test_the_same_graph_may_run_again(executor: Executor, test: str) -> None:
    graph: Graph = {"job": test, "first-1": (_first, "job", 1)}
    for _ in range(2):
        executor.run(graph, done=lambda key: None)
    assert ENDED[test] == [1, 1]


def test_an_empty_graph_is_done_at_once(executor: Executor) -> None:
    executor.run({}, done=lambda key: pytest.fail(key))


def test_an_executor_counts_all_threads(executor: Executor) -> None:
    assert (executor.workers, executor.elsewhere) == (2, True)


def test_the_error_of_a_task_comes_through_as_it_was(executor: Executor, test: str) -> None:
    graph = {**_graph(test, 4), "first-2": (_wrong, "job", 2)}
    with pytest.raises(SlideFormatError, match=r"^2 is no slide$"):
        executor.run(graph, done=lambda key: None)


def test_what_a_worker_does_not_see_names_its_machine(executor: Executor, test: str) -> None:
    with pytest.raises(SlideNotFoundError, match=r"2 is not there \(said the worker on \S+\)$"):
        executor.run({"job": test, "first-2": (_gone, "job", 2)}, done=lambda key: None)


def test_a_stop_waits_for_what_is_in_work_and_begins_no_more(executor: Executor, test: str) -> None:
    GO_ON.clear()
    stopped = Event()

    def done(key: str) -> None:
        stopped.set()
        msg = "stopped"
        raise RunStoppedError(msg)

    def let_go() -> None:
        # One task of two may end; the others in work wait until the stop is under way.
        GO_ON.set()
        assert stopped.wait(60)
        GO_ON.clear()
        sleep(0.5)
        GO_ON.set()

    other = Thread(target=let_go)
    other.start()
    with pytest.raises(RunStoppedError, match="stopped"):
        executor.run(_graph(test, 200), done=done)
    begun = list(BEGUN[test])
    assert sorted(begun) == sorted(number for number in ENDED[test] if number >= 0)
    assert len(begun) < 200
    other.join()
    sleep(0.3)
    assert BEGUN[test] == begun


def test_a_stopped_run_leaves_the_workers_to_the_next(executor: Executor, test: str) -> None:
    def done(key: str) -> None:
        raise KeyError(key)

    with pytest.raises(KeyError, match="first"):
        executor.run(_graph(test, 50), done=done)
    ENDED[test].clear()
    executor.run(_graph(test, 5), done=lambda key: None)
    assert len([number for number in ENDED[test] if number >= 0]) >= 5


def test_errors_survive_the_way_back() -> None:
    for name in errors.__all__:
        error = getattr(errors, name)("what was asked")
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), "what was asked")


def test_a_cluster_without_workers_is_waited_for_with_a_word_and_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", 0.6)
    said: list[str] = []
    with (
        _cluster(0) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with pytest.raises(ClusterError, match=r"had no workers for 0\.01 minutes: start some"):
            waiting.wait_for_workers(client, say=said.append)
        assert said == ["the cluster has no workers: waiting up to 0.01 minutes for one"]
        cluster.scale(1)
        monkeypatch.setattr(waiting, "WAIT_S", 60)
        waiting.wait_for_workers(client, say=said.append)


def test_workers_that_vanish_in_mid_run_end_it_after_a_while(
    monkeypatch: pytest.MonkeyPatch, test: str
) -> None:
    monkeypatch.setattr(waiting, "WAIT_S", 0.1)
    said: list[str] = []
    with (
        _cluster(0) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ClusterError, match="had no workers"),
    ):
        Cluster(client, say=said.append).run(_graph(test, 3), done=lambda key: None)
    assert len(said) == 1


def test_a_scheduler_that_goes_away_is_a_clear_error(test: str, tmp_path: Path) -> None:
    GO_ON.clear()
    cluster = _cluster(1)
    with cluster, Client(cluster, set_as_default=False) as client:

        def close() -> None:
            while not BEGUN[test]:
                sleep(0.05)
            client.loop.call_later(0.5, GO_ON.set)
            cluster.close()

        other = Thread(target=close)
        other.start()
        with pytest.raises(ClusterError, match="scheduler of the cluster is gone"):
            Cluster(client, say=lambda text: None).run(_graph(test, 3), done=lambda key: None)
        other.join()
