"""`laketag tag` on a GPU, whole: a run, one that is killed and goes on, and two workers that share the GPU.

PYTHONPATH=src:benchmarks python benchmarks/gpu/line.py [--out line.json]

Needs pylance beside what throughput.py needs; README.md beside this says how it comes along. `--device cpu
--size tiny` shows that it works where there is no GPU.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lance
import models
import pyarrow as pa
from figures import started

import laketag
from laketag.taggers.aesthetic import Aesthetic

_LABELS = ["AESTHETIC_SCORE", "AESTHETIC_TAG", "AESTHETIC_ERROR"]


class Lake:
    """A model, and a dataset that can be written anew."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        """Make the model and the images."""
        self.folder, self.device = folder, str(asked.device)
        encoder, head = models.write_model(folder / "model", asked.size)
        self.tagger = Aesthetic(encoder=str(encoder), head=str(head))
        distinct = models.photographs(min(asked.images, 64))
        self._images = [distinct[number % len(distinct)] for number in range(asked.images)]
        self._images[7] = b"no image"

    def written(self, name: str) -> str:
        """Write the dataset."""
        table = pa.table({"jpg": pa.array(self._images, pa.binary())})
        lance.write_dataset(table, str(self.folder / name), max_rows_per_file=max(1, len(table) // 4))
        return str(self.folder / name)

    def tag(self, uri: str, workers: int = 1) -> laketag.TagReport:
        """Tag it."""
        settings = laketag.TagSettings(device=self.device)
        return laketag.tag(uri, [self.tagger], settings=settings, engine=laketag.Local(workers))


def labels(uri: str) -> pa.Table:
    """Read all labels; the one image that is none has a reason, and all others have scores."""
    found = lance.dataset(uri).to_table(columns=_LABELS)
    failed = found["AESTHETIC_ERROR"].to_pylist()
    if failed[7] != "not an image" or any(failed[:7] + failed[8:]):
        raise AssertionError(f"errors: {sorted(set(map(str, failed)))}")
    return found


def whole(lake: Lake) -> dict[str, Any]:
    """Tag in one run."""
    report = lake.tag(lake.written("whole"))
    labels(str(lake.folder / "whole"))
    return {
        "one worker: seconds, start-up and commit included": report.seconds,
        "one worker: rows/s": report.rows_per_second,
        "one worker: speed": report.speed.line if report.speed else "",
    }


_KILLED = """
import os, signal, sys, laketag
from laketag.taggers.aesthetic import Aesthetic

def die(progress):
    if progress.done:
        os.killpg(0, signal.SIGKILL)

_, uri, device, encoder, head = sys.argv
settings = laketag.TagSettings(device=device, progress=die)
laketag.tag(uri, [Aesthetic(encoder=encoder, head=head)], settings=settings)
"""


def killed(lake: Lake) -> dict[str, Any]:
    """Kill a run, every process of it, when something of it is staged; the same again gives the same bits."""
    uri, tagger = lake.written("killed"), lake.tagger
    command = [sys.executable, "-c", _KILLED, uri, lake.device, tagger.encoder, tagger.head]
    died = subprocess.run(command, start_new_session=True, check=False).returncode
    if died != -signal.SIGKILL:
        raise AssertionError(f"the run that was to be killed ended with {died}")
    report = lake.tag(uri)
    if labels(uri) != labels(str(lake.folder / "whole")):
        raise AssertionError("a run that was killed and went on gave other labels")
    return {"killed: rows staged before": report.skipped, "killed: seconds of the rest": report.seconds}


def shared(lake: Lake) -> dict[str, Any]:
    """Tag with two workers on the one device."""
    report = lake.tag(lake.written("shared"), workers=2)
    scores = [labels(str(lake.folder / name))["AESTHETIC_SCORE"].to_numpy() for name in ("whole", "shared")]
    apart = abs(scores[0] - scores[1])
    return {
        "two workers: seconds, start-up and commit included": report.seconds,
        "two workers: speed": report.speed.line if report.speed else "",
        "two workers: largest difference of a score": float(apart[apart == apart].max()),
    }


def main() -> int:
    asked, figures = started("gpu/line", __doc__, images=16384)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(asked, Path(folder))
        for stage in (whole, killed, shared):
            figures.stage(stage.__name__, lambda stage=stage: stage(lake))
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
