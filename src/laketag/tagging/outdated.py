"""Staged failures of rows that have a label by now, so that they are no longer what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from laketag.lake import sql
from laketag.lake.reading import RowRange, address, ranges_of, scan
from laketag.tagging.job import Job
from laketag.tagging.staging import OFFSET, Index, Reader, Staging

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


def outdated(dataset: LanceDataset, job: Job, staging: Staging, index: Index) -> Index:
    """Find the staged files with a failure of a row that has a label of the same input by now.

    A recompute made that label since, or `adopt` took it over; the failure would take its place.

    Args:
        dataset: which has the job's columns.
        job: whose labels they are.
        staging: where they are staged.
        index: what is staged.
    """
    names: set[str] = set()
    reader = Reader(staging, job.states)
    failing = Index.of(part for part in index.parts if part.failed)
    for rows in ranges_of(dataset, job.reads) if failing.by_source else ():
        parts = failing.over(rows)
        labelled = _labelled(dataset, job, rows) if parts else set()
        # A fragment without any label, as most have that are worked on, costs no look at what is staged.
        for part, table in zip(parts, reader.tables(parts), strict=True) if labelled else ():
            failed = table.filter(pc.is_valid(table[job.error_column]))
            if not labelled.isdisjoint(_pairs(failed[OFFSET], failed[job.digest_column])):
                names.add(part.name)
    return Index.of(part for part in index.parts if part.name in names)


def _labelled(dataset: LanceDataset, job: Job, rows: RowRange) -> set[tuple[int, int]]:
    """List the offsets of the rows that have a label, each with the digest of what it was made from."""
    error, digest = map(sql.quote, job.states)
    where = f"{error} is null and {digest} is not null"
    first = address(rows.fragment, 0)
    return {
        (place - first, made_from)
        for batch in scan(dataset, [rows], [job.digest_column], where=where)
        for place, made_from in _pairs(batch["_rowaddr"], batch[job.digest_column])
    }


def _pairs(one: pa.Array | pa.ChunkedArray, other: pa.Array | pa.ChunkedArray) -> list[tuple[int, int]]:
    return list(zip(one.to_pylist(), other.to_pylist(), strict=True))
