"""Figures of a run on a lent machine, printed and written as they come: one cut short keeps what it has."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import models
import torch


@dataclass
class Figures:
    """What a script has found so far, and which of its stages failed."""

    name: str
    device: str
    is_long: bool
    """Whether it is the full model on a GPU, which the pages show."""
    file: Path | None = None
    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do a part of the work; where it fails, the others are still worth having."""
        try:
            found = work()
        except Exception as error:
            traceback.print_exc()
            self.failed[name] = f"{type(error).__name__}: {error}"[:300]
            found = {}
        self.found.update(found)
        for key, value in found.items():
            self._tell(key, value)
        self._tell(f"({name} ended)", self.failed.get(name, ""))
        if self.file is not None:
            self.file.write_text(json.dumps(self.result, indent=1) + "\n")

    @property
    def result(self) -> dict[str, Any]:
        """Give all of it, as `benchmarks/results/` has it."""
        return {
            "benchmark": self.name,
            "form": "long" if self.is_long else "short",
            "machine": {
                "device": _name(self.device),
                "cores": str(os.cpu_count()),
                "python": platform.python_version(),
                **models.versions("torch", "transformers", "PIL", "pyarrow", "numpy"),
            },
            "figures": self.found,
            "failed": self.failed,
        }

    def end(self) -> int:
        """Print all of it as one JSON object; returns the exit code."""
        print(json.dumps(self.result))
        return int(bool(self.failed))

    def _tell(self, key: str, value: Any) -> None:
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        print(f"{time.perf_counter() - self.started:6.1f} s  {key:60} {shown}", file=sys.stderr, flush=True)


def started(name: str, doc: str | None, *, images: int) -> tuple[argparse.Namespace, Figures]:
    """Read the command line of a script that has no options of its own, and give it room for its figures."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="so400m", choices=sorted(models.SIZES))
    parser.add_argument("--images", type=int, default=images)
    parser.add_argument("--out", type=Path, help="written again after each stage")
    asked = parser.parse_args()
    is_long = asked.size == "so400m" and asked.device.startswith("cuda")
    return asked, Figures(name, asked.device, is_long, asked.out)


def _name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor()
