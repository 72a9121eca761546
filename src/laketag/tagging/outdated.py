"""Staged failures of rows that have a label by now: the label is staged after them, so that it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laketag.lake import sql
from laketag.lake.reading import RowRange, address, fetch, ranges_of, scan
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import OFFSET, Index, Part, Reader, Staging

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


def outdated(dataset: LanceDataset, job: Job, staging: Staging, index: Index) -> list[Part]:
    """Stage the label of each row whose staged failure is older: returns what lies where.

    A recompute made that label since of the same input, or `adopt` took it over; the failure would take its
    place. What is staged beside the failure still counts.

    Args:
        dataset: which has the job's columns.
        job: whose labels they are.
        staging: where they are staged.
        index: what is staged, of one slice.
    """
    found: list[Part] = []
    for rows in ranges_of(dataset, job.reads) if any(part.failed for part in index.parts) else ():
        parts = index.over(rows)
        # A fragment without any label, as most have that are worked on, costs no look at what is staged.
        labelled = _labelled(dataset, job, rows) if any(part.failed for part in parts) else set()
        failed = _failed(job, Reader(staging, job.states), parts) if labelled else {}
        offsets = sorted(offset for offset, made_from in failed.items() if (offset, made_from) in labelled)
        if offsets:
            addresses = address(rows.fragment, 0) + np.array(offsets, np.int64)
            labels = fetch(dataset, addresses, job.columns.names).select(job.columns.names)
            [batch] = labels.combine_chunks().to_batches()
            chunk = Chunk(parts[-1].key, (rows,))  # of the same slice
            version, newest = dataset.version, index.newest
            found += staging.stage(chunk, batch, addresses, version=version, after=newest)[0]
    return found


def _failed(job: Job, reader: Reader, parts: list[Part]) -> dict[int, int]:
    """Give the offsets of the rows that failed at last, each with the digest of what they failed on."""
    failed: dict[int, int] = {}
    for table in reader.tables(parts):
        names = (OFFSET, *job.states)
        for offset, reason, digest in zip(*(table[name].to_pylist() for name in names), strict=True):
            failed.pop(offset, None)
            if reason is not None:
                failed[offset] = digest
    return failed


def _labelled(dataset: LanceDataset, job: Job, rows: RowRange) -> set[tuple[int, int]]:
    """List the offsets of the rows that have a label, each with the digest of what it was made from."""
    error, digest = map(sql.quote, job.states)
    where = f"{error} is null and {digest} is not null"
    first = address(rows.fragment, 0)
    return {
        (place - first, made_from)
        for batch in scan(dataset, [rows], [job.digest_column], where=where)
        for place, made_from in zip(
            *(batch[n].to_pylist() for n in ("_rowaddr", job.digest_column)), strict=True
        )
    }
