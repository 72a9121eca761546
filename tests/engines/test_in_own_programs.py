"""laketag inside a program that has a Ray or a Spark of its own, which it uses and leaves as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import places
from datasets import image, make
from programs import environment
from standalone import standalone

pytestmark = pytest.mark.slow

ROWS = 200


def test_a_program_s_own_ray_is_used_from_driver_task_and_actor_and_left_alone(tmp_path: Path) -> None:
    places.require_ray()
    make(tmp_path / "data", ROWS)

    told = told_by("in_own_ray.py", tmp_path)

    assert told["refused"].startswith("gpus is 64 for each worker, and Ray finds ")
    assert told["computed"] == [ROWS, ROWS, ROWS]
    assert told["is_theirs"]
    assert told["nodes"] == 1
    # Two workers share the GPU, the third finds no room; progress says so.
    assert len({row["PID"] for row in told["rows"]}) == 2
    assert {row["GPU"] for row in told["rows"]} == {"0"}
    assert any(line.endswith("2 workers, 1 awaited") for line in told["progress"])
    # The runtime environment of the workers that the task asked for.
    assert {row["IN_TASK"] for row in told["rows"]} == {"calm"}
    assert None not in {row["IN_ACTOR"] for row in told["rows"]}


def test_a_program_s_own_spark_may_speculate_and_is_left_alone(tmp_path: Path) -> None:
    places.require_spark()
    make(tmp_path / "data", ROWS)

    with standalone(tmp_path) as master:
        told = told_by("in_own_spark.py", tmp_path, master)

    # The task that hung was copied; the copy's labels came, and the hung one was ended.
    assert told["files"] == ["copied", "hung"]
    assert told["computed"] == [ROWS, 0]
    assert told["failed"] == 0
    rows = {row["number"]: row["LENGTH"] for row in told["rows"]}
    assert rows == {number: len(image(number)) for number in range(ROWS)}
    assert len(told["rows"]) == ROWS
    assert told["is_theirs"]


def told_by(program: str, folder: Path, *words: str) -> Any:
    (folder / "said").mkdir()
    file, data, said = Path(__file__).with_name(program), folder / "data", folder / "said"
    command = [sys.executable, str(file), str(data), str(said), *words]
    variables = environment() | places.LOOPBACK | {"PYSPARK_PYTHON": sys.executable}
    done = subprocess.run(command, check=False, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "said" / "told.json").read_text())
