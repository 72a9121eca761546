"""Benchmarks for machines that are not always at hand still run, at a tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOT_NEEDED = ("lance", "rich", "typer", "onnxruntime", "skimage", "duckdb")


@pytest.mark.slow
def test_what_runs_on_a_lent_gpu_runs_without_lance_on_a_cpu_at_a_tiny_size(tmp_path: Path) -> None:
    model = ["--device", "cpu", "--size", "tiny"]
    sizes = ["--images", "64", "--pixels", "320x240", "--batches", "8,16"]
    commands = {
        "throughput": [
            *model,
            *sizes,
            "--stages",
            "decode,model,pipeline,kernels",
        ],  # compiling takes minutes
        "checks": [*model, "--images", "6"],
    }
    program = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))  # whoever imports them fails\n"
        f"for name, arguments in {commands!r}.items():\n"
        f"    sys.argv[1:] = [*arguments, '--out', {str(tmp_path)!r} + f'/{{name}}.json']\n"
        "    try:\n"
        f"        runpy.run_path({str(ROOT / 'benchmarks/gpu')!r} + f'/{{name}}.py', run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "benchmarks", "benchmarks/gpu"))

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    measured, checked = (json.loads((tmp_path / f"{name}.json").read_text()) for name in commands)
    assert measured["failed"] == checked["failed"] == {}
    figures = measured["figures"]
    assert set(figures["model only: images/s by batch size"]) == {"8", "16"}
    assert figures["end to end, best: images/s"] > 0
    assert 0 < figures["model only: share of the matrix-product rate"] < 1
    assert sum(figures["kernels: shares"].values()) > 0
    assert checked["figures"]["batches begun ahead that are right"] == 24
