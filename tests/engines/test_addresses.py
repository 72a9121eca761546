"""What a cluster cannot give is one line, soon."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import places
from laketag.engines.protocol import Engine, Workers
from laketag.engines.ray import Ray
from laketag.errors import EngineError, WrongUsage
from programs import environment


@pytest.mark.slow
def test_a_ray_address_where_no_one_answers_is_refused_within_seconds() -> None:
    places.require_ray()
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]

    # In a process of its own: where Ray runs already, no address is looked at.
    asking = f"from laketag.engines.ray import Ray; next(Ray(address='127.0.0.1:{port}').run(str, [1]))"
    done = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, env=environment())

    assert f"EngineError: there is no Ray cluster at 127.0.0.1:{port} (" in done.stderr
    assert "refused" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("address", ["head", "local"])  # Ray itself takes `local`, and listens for all
def test_an_address_that_is_none_is_not_taken_for_a_wrong_runtime_environment(address: str) -> None:
    with pytest.raises(WrongUsage, match=f"{address!r} is no address of a Ray cluster; give HOST:PORT, "):
        Ray(address=address, runtime_env={"env_vars": {"MOOD": "good"}})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_what_nodes_there_are_is_not_asked_for_each_worker(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    asked: list[int] = []
    nodes = ray.nodes
    monkeypatch.setattr(ray, "nodes", lambda: (asked.append(1), nodes())[1])
    monkeypatch.setattr("laketag.engines.crew._LOOK_AGAIN", 600.0)  # the first look tells of all three

    done = sorted(dataclasses.replace(engine, workers=3).run(str, range(6)))  # type: ignore[type-var]  # a Ray

    assert done == list("012345")
    assert asked == [1]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray"], indirect=True)
@pytest.mark.parametrize("runtime_env", [{"env_vars": {"MOOD": 1}}, {"working_dir": "."}], ids=str)
def test_a_runtime_environment_that_ray_does_not_take_is_one_line(
    engine: Engine, runtime_env: dict[str, object]
) -> None:
    asking = dataclasses.replace(engine, runtime_env=runtime_env)  # type: ignore[type-var]  # a Ray

    with pytest.raises(EngineError, match=r"^the workers' runtime_env cannot be made: .+$"):
        next(asking.run(str, [1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "other"),
    [
        ("ray", {"address": "127.0.0.1:1"}),
        ("spark", {"master": "spark://127.0.0.1:1"}),
    ],
    indirect=["engine"],
)
def test_another_cluster_than_the_one_that_the_program_is_part_of_is_refused(
    engine: Engine, other: dict[str, str]
) -> None:
    asking = dataclasses.replace(engine, **other)  # type: ignore[type-var]  # a Ray or a Spark
    [place] = other.values()

    with pytest.raises(EngineError, match=f"already, so that none at {place} can be used: leave the "):
        next(asking.run(str, [1]))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_a_node_that_takes_idle_workers_along_does_not_end_the_run(engine: Engine, tmp_path: Path) -> None:
    told: list[Workers] = []
    twice = dataclasses.replace(engine, tries=2)  # type: ignore[type-var]  # a Ray

    results = list(twice.run(TakesIdleOnesAlong(str(tmp_path)), range(2), told.append))

    assert sorted(results) == [0, 1]
    assert told[-1].lost == 2


@dataclasses.dataclass(frozen=True)
class TakesIdleOnesAlong:
    """At the first try task 1 waits until the other worker idles, and kills it and itself, as a node does."""

    folder: str

    def __call__(self, task: int) -> int:
        idle, tried = Path(self.folder, "idle"), Path(self.folder, "tried")
        if task == 0:
            while not tried.exists():  # else one worker might be given both tasks
                time.sleep(0.01)
            idle.write_text(str(os.getpid()))
        elif not tried.exists():
            tried.touch()
            while not (idle.exists() and idle.read_text()):
                time.sleep(0.01)
            time.sleep(0.5)  # until it has answered
            os.kill(int(idle.read_text()), signal.SIGKILL)
            time.sleep(0.5)  # until Ray knows
            os.kill(os.getpid(), signal.SIGKILL)
        return task
