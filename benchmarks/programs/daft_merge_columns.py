"""As Daft does it: `daft_lance.merge_columns` with a function of a batch.

python daft_merge_columns.py URI MODEL
"""

from __future__ import annotations

import sys

import daft_lance
import labels
import pyarrow as pa


def main(uri: str, model: str) -> None:
    """Label a dataset."""

    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        predict = labels.load(model, cores=2)
        scores = [predict(data) for data in batch["jpg"].to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(scores, pa.float64())], names=["SCORE"])

    daft_lance.merge_columns(uri, transform=score, read_columns=["jpg"])


main(*sys.argv[1:])
