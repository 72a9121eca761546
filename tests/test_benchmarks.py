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
def test_the_benchmark_for_a_gpu_runs_without_lance_on_a_cpu_at_a_tiny_size() -> None:
    program = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({NOT_NEEDED!r}))  # whoever imports them fails\n"
        "sys.argv[1:] = '--device cpu --size tiny --images 64 --pixels 320x240 --batches 8,16'.split()\n"
        f"runpy.run_path({str(ROOT / 'benchmarks/gpu/throughput.py')!r}, run_name='__main__')\n"
    )
    paths = os.pathsep.join(str(ROOT / name) for name in ("src", "benchmarks"))

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert set(figures["model only: images/s by batch size"]) == {"8", "16"}
    assert figures["end to end, best: images/s"] > 0
    assert 0 < figures["model only: share of the matrix-product rate"] < 1
