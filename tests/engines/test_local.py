"""How worker processes of this machine die, and what the driver makes of it."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import pytest

from laketag.engines import local
from laketag.engines.answering import packed
from laketag.engines.local import Local
from laketag.engines.protocol import Workers
from laketag.errors import EngineError, WorkerLost

LONG = 8 << 20
"""Bytes: more than a socket takes, so that a worker waits for the driver in the middle of its answer."""


def test_a_worker_that_dies_in_the_middle_of_its_answer_is_replaced(tmp_path: Path) -> None:
    told: list[Workers] = []
    results = Local(2).run(DiesAnswering(str(tmp_path)), range(2), told.append)
    first = next(results)
    (tmp_path / "go").touch()
    _wait_for_end_of(int(_waited_for(tmp_path / "answering")))

    assert (first, [len(each) for each in results]) == (b"", [LONG])
    assert told[-1].lost == 1


def test_a_worker_that_dies_and_leaves_a_child_with_its_socket_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_LOOK_AGAIN", 0.1)
    started = time.monotonic()

    results = list(Local(1).run(DiesAndLeavesAChild(str(tmp_path)), [7]))

    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert results == [7]
    assert time.monotonic() - started < DiesAndLeavesAChild.seconds


def test_ctrl_c_is_not_for_a_worker_from_its_first_moment_on() -> None:
    worker = local._started(0)
    os.kill(worker.process.pid, signal.SIGINT)
    worker.connection.send_bytes(packed(abs))
    worker.connection.send_bytes(cloudpickle.dumps(-3))
    answer = cloudpickle.loads(worker.connection.recv_bytes())
    worker.connection.close()

    assert answer.value == 3
    assert worker.process.wait(20) == 0


def test_a_task_is_given_out_as_often_as_it_may_be_tried(tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match="SIGKILL"):
        list(Local(1, tries=2).run(DiesAlways(str(tmp_path)), [0]))

    assert (tmp_path / "tried").read_text() == "xx"


@pytest.fixture
def few_files() -> Iterator[None]:
    """Let this process open hardly any files more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)  # the lowest number that is
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 6, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("few_files")
def test_a_worker_that_cannot_be_started_is_said_to_be_one() -> None:
    with pytest.raises(
        EngineError, match=r"worker \d+ cannot be started \(Too many open files\): give fewer"
    ):
        list(Local(20).run(str, range(20)))


@dataclass(frozen=True)
class DiesAlways:
    """Kills its worker, and leaves an x for it."""

    folder: str

    def __call__(self, task: int) -> None:
        with Path(self.folder, "tried").open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DiesAnswering:
    """Task 1 kills its worker, at the first try, once that gives its long answer and nobody listens."""

    folder: str

    def __call__(self, task: int) -> bytes:
        if task == 0:
            return b""
        while not Path(self.folder, "go").exists():
            time.sleep(0.01)
        file = Path(self.folder, "answering")
        if not file.exists():
            threading.Thread(target=self._die_soon, args=(file,)).start()
        return bytes(LONG)

    def _die_soon(self, file: Path) -> None:
        time.sleep(0.5)
        file.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DiesAndLeavesAChild:
    """Forks at the first try, as a pool of processes does, and kills itself; the child lives on."""

    folder: str
    seconds = 30

    def __call__(self, task: int) -> int:
        file = Path(self.folder, "child")
        if not file.exists():
            child = os.fork()
            if child == 0:
                time.sleep(self.seconds)
                os._exit(0)
            file.write_text(str(child))
            os.kill(os.getpid(), signal.SIGKILL)
        return task


def _waited_for(file: Path) -> str:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, f"{file} did not come"
        time.sleep(0.01)
    return file.read_text()


def _wait_for_end_of(process: int) -> None:
    """Wait until a process of this one's has ended; it stays as what is to be asked how it ended."""
    while not Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].startswith(" Z"):
        time.sleep(0.01)
