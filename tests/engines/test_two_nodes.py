"""A node of a Ray cluster dies in mid-job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lance
import pytest

import places
from datasets import make
from fakes import predicted
from programs import environment

pytestmark = pytest.mark.slow

ROWS, CHUNK = 3000, 100
PROGRAM = """
import sys
sys.path[:0] = {path!r}
import ray._private.ray_constants as constants
constants.ENABLE_RAY_CLUSTER = False  # as in two_nodes.py: loopback stays loopback
from fakes import CountingTagger
from laketag import Ray, TagSettings, tag
uri, counted, address = sys.argv[1:]
settings = TagSettings(chunk_rows={chunk})
tag(uri, [CountingTagger(counted, 0.05)], settings=settings, engine=Ray(2, address=address))
"""


def test_a_node_killed_in_mid_job_costs_at_most_two_chunks(tmp_path: Path) -> None:
    places.require_ray()
    folder, counted = tmp_path / "data", tmp_path / "counted"
    counted.mkdir()
    make(folder, ROWS, rows_per_fragment=700)
    variables = environment() | {"RAY_AUTH_MODE": "token"}
    command = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=variables, text=True, **pipes) as cluster:  # type: ignore[call-overload]  # as above
        address, raylet = cluster.stdout.readline().strip(), int(cluster.stdout.readline())
        program = PROGRAM.format(path=sys.path, chunk=CHUNK)
        job = subprocess.Popen(
            [sys.executable, "-c", program, str(folder), str(counted), address],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        _wait_for_both_nodes(counted, job)
        os.kill(raylet, signal.SIGKILL)
        _, said = job.communicate(timeout=300)

    assert job.returncode == 0, said
    dataset = lance.dataset(str(folder))
    assert dataset.count_rows("SHA is null") == 0
    assert len(set(predicted(counted))) == ROWS
    assert len(predicted(counted)) <= ROWS + 2 * CHUNK


def _wait_for_both_nodes(counted: Path, job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while len(list(counted.iterdir())) < 2 or len(predicted(counted)) < 5 * CHUNK:
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
