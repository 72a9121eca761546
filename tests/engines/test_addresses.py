"""What a cluster cannot give is one line, soon."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys

import pytest

import places
from laketag.engines.protocol import Engine
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


def test_an_address_that_is_none_is_not_taken_for_a_wrong_runtime_environment() -> None:
    with pytest.raises(WrongUsage, match="'head' is no address of a Ray cluster; give HOST:PORT, or auto"):
        Ray(address="head", runtime_env={"env_vars": {"MOOD": "good"}})


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray"], indirect=True)
def test_what_nodes_there_are_is_not_asked_for_each_worker(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    asked: list[int] = []
    nodes = ray.nodes
    monkeypatch.setattr(ray, "nodes", lambda: (asked.append(1), nodes())[1])
    monkeypatch.setattr("laketag.engines.ray._LOOK_AGAIN", 600.0)  # the first look tells of all three

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
