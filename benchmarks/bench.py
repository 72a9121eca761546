"""What the benchmarks share: timing, the machine in words, and one JSON object at the end."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def seconds(fn: Callable[[], Any], repeats: int = 3) -> float:
    """Time a call: the median of some repeats."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        fn()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@dataclass(frozen=True)
class Cost:
    """What something took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of all cores: what others do on the machine hardly changes it."""

    def less(self, other: Cost) -> Cost:
        """Leave out what another took."""
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def cost(work: Callable[[], Any]) -> Cost:
    """Do something, in this process and in those that it starts and ends."""
    before, started = os.times(), time.perf_counter()
    work()
    ended, after = time.perf_counter(), os.times()
    return Cost(ended - started, sum(after[:4]) - sum(before[:4]))


def process_seconds(program: str, *arguments: str, repeats: int = 5) -> float:
    """Time a Python program as a whole process."""
    command = [sys.executable, "-c", program, *arguments]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), repeats)


def machine() -> dict[str, str]:
    """Describe the machine and the versions that matter."""
    versions = {
        name: _version(name)
        for name in (
            "pylance",
            "pyarrow",
            "numpy",
            "pillow",
            "onnxruntime",
            "torch",
            "transformers",
            "pandas",
        )
    }
    return {
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "system": platform.platform(),
        **versions,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def finish(name: str, figures: dict[str, Any]) -> None:
    """Print the figures for people and write them as `benchmarks/results/<name>.json`."""
    for key, value in figures.items():
        print(f"{key:48} {value:.3f}" if isinstance(value, float) else f"{key:48} {value}", file=sys.stderr)
    result = {"benchmark": name, "machine": machine(), "figures": figures}
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
