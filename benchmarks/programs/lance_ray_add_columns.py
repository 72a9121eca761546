"""As lance-ray does it: `add_columns` with a function of a batch.

python lance_ray_add_columns.py URI MODEL
"""

from __future__ import annotations

import sys

import labels
import lance_ray
import pyarrow as pa
import ray


def main(uri: str, model: str) -> None:
    """Label a dataset."""
    labels.start_ray(ray)

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        predict = labels.load(model)
        scores = [predict(data) for data in batch["jpg"].to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(scores, pa.float64())], names=["SCORE"])

    lance_ray.add_columns(uri, transform=score, read_columns=["jpg"], batch_size=64, concurrency=2)


main(*sys.argv[1:])
