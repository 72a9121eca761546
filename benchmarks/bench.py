"""What the benchmarks share: two forms, timing, the machine in words, and one JSON object at the end."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def asked(doc: str | None, **sizes: tuple[Any, Any]) -> argparse.Namespace:
    """Read the command line of a benchmark.

    Each size is given in two forms, short and long, and has a flag of its own. `long` of the result is
    whether it is the long form with nothing of it changed, which `finish` wants to know.
    """
    # Whole processes are timed: what they import is compiled once, as in what pip has installed.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="the form that the README's figures are from")
    for name, (short, long) in sizes.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(long), help=f"{short}, with --long {long}"
        )
    found = parser.parse_args()
    changed = [name for name in sizes if getattr(found, name) is not None]
    for name in sizes.keys() - changed:
        setattr(found, name, sizes[name][found.long])
    found.long = found.long and not changed
    return found


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
            "ray",
            "pyspark",
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


def finish(name: str, figures: dict[str, Any], *, long: bool) -> None:
    """Print the figures for people and write them where the form of the run says."""
    for key, value in figures.items():
        print(f"{key:48} {value:.3f}" if isinstance(value, float) else f"{key:48} {value}", file=sys.stderr)
    form = "long" if long else "short"
    result = {"benchmark": name, "form": form, "machine": machine(), "figures": figures}
    result_file(name, "json", long=long).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def result_file(name: str, ending: str, *, long: bool) -> Path:
    """Say where a result lies: `NAME.json` of the long form, `NAME.short.json` of the other."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / (f"{name}.{ending}" if long else f"{name}.short.{ending}")


def python_path(*folders: Path) -> str:
    """Give the search path for a program: these folders, and what this process finds laketag by."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def environment(name: str, needs: Sequence[str]) -> Path:
    """Give the Python of an environment with these packages, made where it is not there; git ignores it."""
    folder = Path(__file__).parent / f".venv-{name}"
    stamp = folder / "needs.txt"
    if not stamp.exists() or stamp.read_text().split() != list(needs):
        print(f"{name}: making its environment", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        # This environment's pip installs for it: to bring a pip along takes longer than most packages.
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", *needs], check=True)
        stamp.write_text("\n".join(needs))
    return folder / "bin" / "python"
