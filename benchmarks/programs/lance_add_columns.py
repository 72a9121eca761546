"""As Lance alone does it: `LanceDataset.add_columns` with a function that has a checkpoint file.

python lance_add_columns.py URI MODEL
"""

from __future__ import annotations

import sys

import labels
import lance
import pyarrow as pa

SCHEMA = pa.schema([("SCORE", pa.float64())])


def main(uri: str, model: str) -> None:
    """Label a dataset."""
    predict = labels.load(model, cores=2)

    @lance.batch_udf(output_schema=SCHEMA, checkpoint_file=f"{uri}.checkpoint")
    def score(batch: pa.RecordBatch) -> pa.RecordBatch:
        scores = [predict(data) for data in batch["jpg"].to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(scores, pa.float64())], schema=SCHEMA)

    lance.dataset(uri).add_columns(score, read_columns=["jpg"], batch_size=64)


main(*sys.argv[1:])
