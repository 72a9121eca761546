"""An import killed at a random moment: readers see the old version, and the same command does the rest."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import lance
import pytest

from laketag.engines.local import Local
from laketag.shards import plan
from laketag.shards.importing import ImportSettings, import_
from tars import sample, write_tar

pytestmark = pytest.mark.slow

SHARDS, SAMPLES = 24, 40
PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
from laketag.engines.local import Local
from laketag.shards import plan
from laketag.shards.importing import ImportSettings, import_
plan.TASK_BYTES = 1
print("ready", flush=True)
import_([sys.argv[1]], sys.argv[2], settings=ImportSettings(append=True), engine=Local(2))
"""


def test_sigkill_at_a_random_moment_loses_and_repeats_nothing(tmp_path, monkeypatch, round_):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    uri = str(tmp_path / "dataset")
    before = []
    if round_ == 1:
        import_([str(write_tar(tmp_path / "old.tar", sample("old")))], uri)
        before = ["old"]
    keys = [f"{i}-{j}" for i in range(SHARDS) for j in range(SAMPLES)]
    for i in range(SHARDS):
        samples = [sample(f"{i}-{j}", {"n": j, f"only{i}": 1}, bin=bytes(50_000)) for j in range(SAMPLES)]
        write_tar(tmp_path / "shards" / f"{i:03d}.tar", *samples)

    killed = 0
    for longest in (0.5, 1.0):
        killed += _start_and_kill(tmp_path / "shards", uri, longest)
        assert _keys(uri) in (before, [*before, *keys])
    report = import_([str(tmp_path / "shards")], uri, settings=ImportSettings(append=True), engine=Local(2))

    assert killed
    assert _keys(uri) == [*before, *keys]
    assert report.rows == len(keys) + len(before)
    assert report.complete
    lance.dataset(uri).validate()


def _start_and_kill(shards: Path, uri: str, longest: float) -> bool:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(shards), uri], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process, process.stdout as output:
        output.readline()
        time.sleep(random.uniform(0.1, longest))
        process.kill()
    return process.returncode < 0


def _keys(uri: str) -> list[str]:
    if not Path(uri, "_versions").exists():
        return []
    return lance.dataset(uri).to_table(columns=["__key__"])["__key__"].to_pylist()
