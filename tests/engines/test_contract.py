"""What every engine promises, run on all of them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.errors import BadTagger, TaskFailed, WorkerLost

ENGINES = {"local-1": Local(1), "local-2": Local(2)}


@pytest.fixture(params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def test_every_task_is_once_in_the_result(engine: Engine) -> None:
    assert sorted(engine.run(_square, range(50))) == [n * n for n in range(50)]


def test_no_tasks_give_no_results(engine: Engine) -> None:
    assert list(engine.run(_square, [])) == []


def test_a_function_without_a_module_reaches_the_workers(engine: Engine) -> None:
    offset = 7

    assert sorted(engine.run(lambda n: n + offset, [1, 2])) == [8, 9]


def test_an_error_of_ours_arrives_as_it_is(engine: Engine) -> None:
    with pytest.raises(BadTagger, match="weights of 3"):
        list(engine.run(_refuse, [3]))


def test_any_other_exception_says_what_it_was(engine: Engine) -> None:
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        list(engine.run(_divide, [0]))


def test_a_task_whose_worker_is_killed_runs_again(engine: Engine, tmp_path: Path) -> None:
    assert sorted(engine.run(DieOnce(str(tmp_path)), range(6))) == list(range(6))


def test_a_task_that_always_kills_its_worker_ends_the_run(engine: Engine) -> None:
    with pytest.raises(WorkerLost, match="SIGKILL"):
        list(engine.run(_die, [1]))


def test_leaving_early_ends_the_workers(engine: Engine) -> None:
    results = engine.run(_pid, range(100))
    pid = next(results)
    results.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@dataclass(frozen=True)
class DieOnce:
    """Kills its worker at the first try of task 3."""

    folder: str

    def __call__(self, task: int) -> int:
        tried = Path(self.folder, "tried")
        if task == 3 and not tried.exists():
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task


def _square(n: int) -> int:
    return n * n


def _refuse(n: int) -> int:
    raise BadTagger(f"weights of {n} are missing")


def _divide(n: int) -> float:
    return 1 / n


def _die(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return n


def _pid(n: int) -> int:
    return os.getpid()
