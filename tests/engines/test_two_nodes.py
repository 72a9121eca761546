"""A Ray cluster that gets a second machine in mid-job, which dies, or lacks what the first one has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
from fakes import CountingTagger, Weighty
from laketag import LaketagError, Ray, TagSettings, tag
uri, counted, weights, address = sys.argv[1:]
tell = lambda told: print(told.detail, file=sys.stderr)
settings = TagSettings(chunk_rows={chunk}, progress=tell)
tagger = Weighty(weights, 1.0) if weights else CountingTagger(counted, 0.05)
try:
    tag(uri, [tagger], settings=settings, engine=Ray(2, address=address))
except LaketagError as error:
    sys.exit(str(error))
"""
VARIABLES = environment() | places.LOOPBACK | {"RAY_AUTH_MODE": "token"}


@dataclass
class Nodes:
    """A running cluster."""

    program: subprocess.Popen[str]
    address: str

    def add(self, *, without: Path | str = "") -> int:
        """Add a node, with an empty folder in a folder's place; give the process of its raylet."""
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.write(f"{without}\n")
        self.program.stdin.flush()
        return int(self.program.stdout.readline())

    def start(self, folder: Path, counted: Path, weights: Path | str = "") -> subprocess.Popen[str]:
        """Start to tag."""
        program = PROGRAM.format(path=sys.path, chunk=CHUNK)
        return subprocess.Popen(
            [sys.executable, "-c", program, str(folder), str(counted), str(weights), self.address],
            env=VARIABLES,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )


def test_a_node_that_comes_in_mid_job_is_used_and_its_death_costs_at_most_two_chunks(
    nodes: Nodes, tmp_path: Path
) -> None:
    folder, counted = tmp_path / "data", tmp_path / "counted"
    counted.mkdir()
    make(folder, ROWS, rows_per_fragment=700)

    job = nodes.start(folder, counted)
    wait_until(lambda: len(predicted(counted)) > CHUNK, job)
    raylet = nodes.add()
    wait_until(lambda: len(list(counted.iterdir())) == 2 and len(predicted(counted)) > 5 * CHUNK, job)
    os.kill(raylet, signal.SIGKILL)
    _, said = job.communicate(timeout=300)

    assert job.returncode == 0, said
    assert "1 worker, 1 awaited" in said
    assert "2 workers" in said
    assert "1 lost, 1 task tried again" in said
    dataset = lance.dataset(str(folder))
    assert dataset.count_rows("SHA is null") == 0
    assert len(set(predicted(counted))) == ROWS
    assert len(predicted(counted)) <= ROWS + 2 * CHUNK


def test_what_another_machine_lacks_is_one_line_that_names_it(nodes: Nodes, tmp_path: Path) -> None:
    require_another_machine()
    folder, weights = tmp_path / "data", tmp_path / "weights"
    weights.mkdir()
    (weights / "w.bin").touch()
    make(folder, ROWS, rows_per_fragment=700)

    first = nodes.add(without=weights)
    _, lacks_weights = nodes.start(folder, weights, weights / "w.bin").communicate(timeout=300)
    os.kill(first, signal.SIGKILL)
    nodes.add(without=folder)
    _, lacks_dataset = nodes.start(folder, weights, weights / "w.bin").communicate(timeout=300)

    line = lacks_weights.splitlines()[-1]
    assert f"{weights / 'w.bin'}'; it must be there on every machine that workers run on" in line
    assert line.endswith("on elsewhere)")
    line = lacks_dataset.splitlines()[-1]
    assert line.startswith(f"{folder} is a folder of {socket.gethostname()}, which elsewhere does not share")
    assert lance.dataset(str(folder)).schema.names == ["jpg", "number"]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Start a cluster of one node, with one CPU."""
    places.require_ray()
    command = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
    log = tmp_path_factory.mktemp("cluster") / "log"
    with (
        log.open("w") as said,
        subprocess.Popen(
            command, env=VARIABLES, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
        ) as program,
    ):
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        assert address, log.read_text()
        yield Nodes(program, address)


def require_another_machine() -> None:
    """Skip where a process cannot have a host name and folders of its own, as in most containers."""
    done = subprocess.run(["unshare", "--mount", "--uts", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the kernel lets nobody have another host name and other folders here; root may")


def wait_until(is_true: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not is_true():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
