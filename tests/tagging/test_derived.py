"""Taggers and the columns that SQL made: never mixed."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest

import datasets
from datasets import make
from fakes import DigestLabel
from here import tag
from laketag.errors import JobRefused
from laketag.lake.evolving import add_column, rename_column


@pytest.mark.parametrize("column", ["SHA256", "DIGEST_LABEL_ERROR"])
def test_a_tagger_does_not_go_on_with_a_column_that_sql_replaced(tmp_path: Path, column: str) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])
    [column] = [name for name in lance.dataset(uri).schema.names if name.endswith(column.rpartition("_")[2])]
    add_column(uri, column, "'replaced'", replace=True)
    lance.write_dataset(datasets.table(range(300, 310)), uri, mode="append")

    with pytest.raises(JobRefused, match=f"column '{column}' of tagger .* add-column as 'replaced'"):
        tag(uri, [DigestLabel()])


@pytest.mark.slow
def test_a_column_derived_beside_a_label_is_no_matter_to_its_tagger(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])
    add_column(uri, "SHORT", "substr(SHA256, 1, 4)")
    rename_column(uri, "SHORT", "SHORTER")
    lance.write_dataset(datasets.table(range(300, 310)), uri, mode="append")

    assert tag(uri, [DigestLabel()]).computed == 10
    add_column(uri, "SHORTER", "substr(SHA256, 1, 4)", replace=True)
    assert lance.dataset(uri).count_rows(filter="SHORTER is null") == 0
