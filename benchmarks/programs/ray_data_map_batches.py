"""As Ray Data does it by itself: read, `map_batches`, and write all of it into a new dataset.

    python ray_data_map_batches.py URI MODEL

The new dataset is `URI.labelled`, in Parquet: Ray 2.60's own `write_lance` does not go with pylance 14.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

import labels
import ray


class Scorer:
    """Holds the model."""

    def __init__(self, model: str) -> None:
        """Load the model."""
        self.predict = labels.load(model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score a batch."""
        batch["SCORE"] = [self.predict(data) for data in batch["jpg"]]
        return batch


def main(uri: str, model: str) -> None:
    """Label a dataset."""
    labels.start_ray(ray, cpus=4)  # two are held by the models, and what reads and writes wants some, too
    shutil.rmtree(f"{uri}.labelled", ignore_errors=True)
    rows = ray.data.read_lance(uri)
    labelled = rows.map_batches(Scorer, fn_constructor_args=(model,), batch_size=64, concurrency=2)
    labelled.write_parquet(f"{uri}.labelled")


main(*sys.argv[1:])
