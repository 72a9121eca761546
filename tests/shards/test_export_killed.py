"""An export killed at a random moment: no shard is half there, and the same command writes the rest."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import laketag
from laketag import ExportReport, ExportSettings, Local
from programs import environment
from tars import sample, write_tar

pytestmark = pytest.mark.slow

SAMPLES, PER_SHARD = 300, 10
SETTINGS = ExportSettings(where="n <> 5", samples_per_shard=PER_SHARD)
PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
import laketag
print("ready", flush=True)
settings = laketag.ExportSettings(where="n <> 5", samples_per_shard={PER_SHARD})
laketag.export(sys.argv[1], sys.argv[2], settings=settings, engine=laketag.Local(2))
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """100 MB of rows."""
    folder = tmp_path_factory.mktemp("large")
    rows = [sample(f"{n:04d}", {"n": n}, bin=bytes([n % 256]) * 300_000) for n in range(SAMPLES)]
    laketag.import_([str(write_tar(folder / "in.tar", *rows))], str(folder / "dataset"))
    return str(folder / "dataset")


@pytest.fixture(scope="module")
def unbroken(uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[ExportReport, dict[str, str]]:
    """What an export reports that nobody kills, and the digests of its shards."""
    folder = tmp_path_factory.mktemp("unbroken")
    return laketag.export(uri, str(folder), settings=SETTINGS, engine=Local(2)), digests(folder)


def test_a_signal_leaves_whole_shards_and_one_line_that_says_how_to_go_on(tmp_path, uri):
    command = [sys.executable, "-m", "laketag", "export", uri, "out", "--samples-per-shard", "10"]
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "text": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    while not list((tmp_path / "out").glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.005)

    process.terminate()
    out, err = process.communicate(timeout=60)

    shards = len(list((tmp_path / "out").glob("*.tar")))
    assert (process.returncode, out) == (143, ""), err
    assert "of 30 shards in their place; the same command goes on" in err.splitlines()[-1]
    assert 0 < shards < 30
    assert not list((tmp_path / "out").rglob("*.part"))
    again = subprocess.run([*command, "--json"], capture_output=True, check=True, **options)
    assert json.loads(again.stdout)["shards_written"] == 30 - shards


def test_sigkill_at_a_random_moment_leaves_whole_shards_and_the_rest_for_the_next_run(
    tmp_path, uri, unbroken, round_
):
    whole, right = unbroken

    killed, there = 0, 0
    for longest in (0.8, 1.2):
        killed += start_and_kill(uri, tmp_path / "out", longest)
        after = digests(tmp_path / "out")
        assert after.items() <= right.items()
        assert len(after) >= there
        there = len(after)
    report = laketag.export(uri, str(tmp_path / "out"), settings=SETTINGS, engine=Local(2))

    assert killed
    assert digests(tmp_path / "out") == right
    # A shard whose note was not written yet, one of each worker at most, is written once more.
    assert len(right) - there <= report.shards_written <= len(right) - there + 2
    assert (report.shards, report.samples, report.bytes) == (whole.shards, SAMPLES - 1, whole.bytes)
    index = json.loads((tmp_path / "out" / "shardindex.json").read_text())
    assert sum(each["nsamples"] for each in index["shardlist"]) == SAMPLES - 1
    assert not list((tmp_path / "out").rglob("*.part"))


def start_and_kill(uri: str, out: Path, longest: float) -> bool:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, uri, str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        output.readline()
        time.sleep(random.uniform(0.4, longest))
        process.kill()
    # Its workers notice within half a second.
    time.sleep(0.7)
    return process.returncode < 0


def digests(out: Path) -> dict[str, str]:
    return {tar.name: hashlib.sha256(tar.read_bytes()).hexdigest() for tar in out.glob("*.tar")}
