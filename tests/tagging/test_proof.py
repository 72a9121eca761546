"""The promise in numbers: a hundred thousand rows, and exactly the rows that changed are computed again."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import Storage, labels
from fakes import DigestLabel, sha256_of
from laketag.engines.local import Local
from laketag.tagging.run import tag

ROWS, APPENDED, DELETED, REPLACED = 100_000, 1_000, 500, 200


@pytest.mark.slow
@pytest.mark.parametrize("stable_row_ids", [True, False], ids=["stable", "unstable"])
def test_of_a_hundred_thousand_rows_exactly_those_that_changed_are_computed(
    tmp_path: Path, stable_row_ids: bool
) -> None:
    uri, storage = str(tmp_path), Storage("binary", "2.2", stable_row_ids)
    datasets.make(tmp_path, ROWS, storage=storage, rows_per_fragment=10_000)
    first = tag(uri, [DigestLabel(batch_size=256)], engine=Local(workers=2))
    lance.dataset(uri).optimize.compact_files(target_rows_per_fragment=25_000)
    lance.dataset(uri).insert(datasets.table(range(ROWS, ROWS + APPENDED)))
    lance.dataset(uri).delete(f"number < {ROWS} and number % {ROWS // DELETED} = 7")
    new = "arrow_cast(concat('another image ', number), 'Binary')"
    lance.dataset(uri).update({"jpg": new}, where=f"number < {ROWS} and number % {ROWS // REPLACED} = 11")

    report = tag(uri, [DigestLabel(batch_size=256)], engine=Local(workers=2))

    assert (first.computed, report.computed) == (ROWS, APPENDED + REPLACED)
    dataset = lance.dataset(uri)
    assert dataset.count_rows() == ROWS + APPENDED - DELETED
    found = dataset.to_table(columns=["jpg", "SHA256"])
    right = pa.array([sha256_of(image) for image in found["jpg"].to_pylist()])
    assert found["SHA256"].combine_chunks().equals(right)
    assert len(labels(tmp_path)) == len(found)
    assert tag(uri, [DigestLabel()]).version_after == report.version_after
