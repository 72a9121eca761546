"""As the vendor's page does it: Ray Data over fragments, `merge_columns`, image by image, one Merge.

python ray_data_merge_columns.py URI MODEL
"""

from __future__ import annotations

import sys

import labels
import lance
import pandas as pd
import pyarrow as pa
import ray

SCHEMA = pa.schema([("SCORE", pa.float64())])


class Scorer:
    """Holds the model and gives a fragment its labels."""

    def __init__(self, uri: str, model: str) -> None:
        """Open the dataset and load the model."""
        self.dataset = lance.dataset(uri)
        self.predict = labels.load(model)

    def score(self, data: bytes) -> float:
        """Score one image; NaN where it cannot be."""
        try:
            return self.predict(data)
        except Exception as error:
            print(f"Error processing image: {error}")
            return float("nan")

    def label(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score a batch."""
        scores = [self.score(data) for data in batch.column("jpg").to_pylist()]
        return pa.RecordBatch.from_pandas(pd.DataFrame({"SCORE": scores}), schema=SCHEMA)

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """Merge the labels into a fragment."""
        fragment = self.dataset.get_fragment(row["item"])
        merged, schema = fragment.merge_columns(value_func=self.label, columns=["jpg"])
        return {"fragment": merged, "schema": schema}


def main(uri: str, model: str) -> None:
    """Label a dataset."""
    labels.start_ray(ray)
    dataset = lance.dataset(uri)
    ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
    labelled = ray.data.from_items(ids).map(Scorer, fn_constructor_args=(uri, model), concurrency=2)
    done = labelled.take_all()
    operation = lance.LanceOperation.Merge([row["fragment"] for row in done], done[0]["schema"])
    lance.LanceDataset.commit(uri, operation, read_version=dataset.version)


main(*sys.argv[1:])
