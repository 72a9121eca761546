"""What every engine promises, run on all of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from laketag.engines import stopping
from laketag.engines.local import Local
from laketag.engines.protocol import Engine, Workers
from laketag.engines.ray import Ray
from laketag.engines.spark import Spark
from laketag.errors import BadTagger, TaskFailed, WorkerLost, WrongUsage


def test_every_task_is_once_in_the_result(engine: Engine) -> None:
    assert sorted(engine.run(_square, range(50))) == [n * n for n in range(50)]


def test_until_the_first_worker_comes_those_that_were_asked_for_are_told(engine: Engine) -> None:
    told: list[Workers] = []

    list(engine.run(_square, range(2), told.append))

    # Workers of this machine are there as soon as they are asked for.
    assert told[0].alive == 0 or isinstance(engine, Local)
    assert told[0].awaited >= 1 or isinstance(engine, Local)
    assert max(workers.alive for workers in told) >= 1
    assert told[-1].lost == 0


def test_threads_of_a_worker_s_model_sleep_while_they_wait(engine: Engine) -> None:
    assert list(engine.run(_wait_policy, [0])) == ["PASSIVE"]


@pytest.mark.parametrize("kind", [Local, Ray, Spark])
def test_no_worker_at_all_is_refused(kind: type[Local] | type[Ray] | type[Spark]) -> None:
    with pytest.raises(WrongUsage, match="--workers is 0; give a whole number from 1 on"):
        kind(workers=0)


def test_no_tasks_give_no_results(engine: Engine) -> None:
    assert list(engine.run(_square, [])) == []


def test_a_function_without_a_module_reaches_the_workers(engine: Engine) -> None:
    offset = 7

    assert sorted(engine.run(lambda n: n + offset, [1, 2])) == [8, 9]


def test_results_come_as_they_finish_and_a_slow_task_holds_nobody(engine: Engine, tmp_path: Path) -> None:
    if engine == Local(1, grace=20):
        pytest.skip("one worker does one task at a time")
    results = []
    for result in engine.run(WaitsForZero(str(tmp_path)), range(8)):
        results.append(result)
        if len(results) == 7:
            (tmp_path / "go").touch()

    assert results[-1] == 0
    assert sorted(results) == list(range(8))


def test_an_error_of_ours_arrives_as_it_is(engine: Engine) -> None:
    with pytest.raises(BadTagger, match="weights of 3 are missing") as caught:
        list(engine.run(_refuse, [3]))

    # Where a worker is elsewhere, the line says which.
    assert ("(worker: process" in str(caught.value)) == (not isinstance(engine, Local))


def test_any_other_exception_says_what_it_was(engine: Engine) -> None:
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        list(engine.run(_divide, [0]))


def test_a_result_that_does_not_pickle_is_said(engine: Engine) -> None:
    with pytest.raises(TaskFailed, match="pickle"):
        list(engine.run(_lock, [0]))


def test_a_task_whose_worker_is_killed_runs_again_and_is_told(engine: Engine, tmp_path: Path) -> None:
    told: list[Workers] = []

    assert sorted(engine.run(DieOnce(str(tmp_path)), range(6), told.append)) == list(range(6))
    assert (told[-1].lost, told[-1].retried) == (1, 1)
    assert max(workers.alive for workers in told) >= 1


def test_a_task_whose_worker_is_told_to_stop_is_given_to_another(engine: Engine, tmp_path: Path) -> None:
    results = sorted(engine.run(DieOnce(str(tmp_path), signal.SIGTERM), range(6)))

    assert results == list(range(6))
    assert (tmp_path / "stopped").exists()


@pytest.mark.slow
def test_a_task_that_always_kills_its_worker_ends_the_run(engine: Engine) -> None:
    with pytest.raises(WorkerLost, match="died"):
        list(engine.run(_die, [1]))


@pytest.mark.slow
def test_leaving_early_tells_the_workers_to_stop_and_waits_for_them(engine: Engine, tmp_path: Path) -> None:
    results = engine.run(RunsUntilStopped(str(tmp_path)), range(4))
    assert next(results) == 0
    _wait_for(tmp_path / "begun")
    results.close()

    assert (tmp_path / "ended").exists()


def test_a_module_that_a_worker_lacks_is_named(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def double(n):\n    return 2 * n\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]  # written above

    (tmp_path / "only_here.py").unlink()

    with pytest.raises(TaskFailed, match="a worker lacks the module 'only_here'"):
        list(engine.run(only_here.double, [1]))


@dataclass(frozen=True)
class DieOnce:
    """Sends its worker a signal at the first try of task 3."""

    folder: str
    number: int = signal.SIGKILL

    def __call__(self, task: int) -> int:
        tried = Path(self.folder, "tried")
        if task == 3 and not tried.exists():
            tried.touch()
            os.kill(os.getpid(), self.number)
            while not stopping.requested():
                time.sleep(0.01)
            Path(self.folder, "stopped").touch()
        return task


@dataclass(frozen=True)
class WaitsForZero:
    """Task 0 ends when there is a file `go`."""

    folder: str

    def __call__(self, task: int) -> int:
        if task == 0:
            _wait_for(Path(self.folder, "go"))
        return task


@dataclass(frozen=True)
class RunsUntilStopped:
    """All tasks but the first go on until the worker is told to stop."""

    folder: str

    def __call__(self, task: int) -> int:
        Path(self.folder, "begun" if task else "first").touch()
        while task and not stopping.requested():
            time.sleep(0.01)
        if task:
            time.sleep(1)  # to stage what is at hand takes a while
            Path(self.folder, "ended").touch()
        return task


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not come"
        time.sleep(0.01)


def _wait_policy(_: int) -> str | None:
    return os.environ.get("OMP_WAIT_POLICY")


def _square(n: int) -> int:
    return n * n


def _refuse(n: int) -> int:
    raise BadTagger(f"weights of {n} are missing")


def _divide(n: int) -> float:
    return 1 / n


def _lock(n: int) -> object:
    return threading.Lock()


def _die(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n
