"""Staged labels of rows that others moved: staged again for where the rows lie now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import DatasetError
from laketag.lake.dataset import open_dataset
from laketag.lake.lineage import Replacement, Rewrite, moves
from laketag.lake.reading import RowRange, address, ranges_of, row_bytes, scan
from laketag.taggers.digest import input_digest
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import ADOPTED, OFFSET, Index, Part, Staging, staged_labels

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


def follow(dataset: LanceDataset, job: Job, staging: Staging, index: Index, *, since: int = 0) -> Index:
    """Add to an index what was staged for rows that lie elsewhere now.

    Rows of a compacted fragment are the live rows of the old ones, in their order, so that a label's new
    place is counted. Rows that an update moved are found by the digest of what was read for them, which
    also says that nothing of it changed. Where the history was cleaned away the labels stay where they are.

    Args:
        dataset: at the version up to which to follow.
        job: whose labels they are.
        staging: where they are staged.
        index: what is staged.
        since: the version up to which the index was followed before.
    """
    if not index.by_source:
        return index
    first = max(since, min(part.version for part in index.parts))
    for move in moves(dataset, job.reads, first):
        try:
            if isinstance(move, Replacement):
                # What `adopt` stages is no label yet, and says nothing of another row with the same image.
                if staging.work == ADOPTED:
                    continue
                index = index.plus(_found_by_digest(job, staging, index, move))
                continue
            is_known = any(rows.source in index.by_source for rows in move.old)
            if is_known and not any(rows.source in index.by_source for rows in move.new):
                index = index.plus(_counted(staging, index, move))
        except DatasetError:  # one of the versions beside it was cleaned away
            continue
    return index


def _counted(staging: Staging, index: Index, rewrite: Rewrite) -> list[Part]:
    before = open_dataset(staging.location, rewrite.version - 1)
    table = pa.concat_tables(_moved(before, staging, index, rewrite.old)).combine_chunks().sort_by(OFFSET)
    places = table[OFFSET].to_numpy().astype(np.int64)
    parts, first = [], 0
    for rows in rewrite.new:
        here = slice(*np.searchsorted(places, [first, first + rows.stop]))
        labels = table.slice(here.start, here.stop - here.start)
        addresses = places[here] - first + address(rows.fragment, 0)
        parts += _staged_again(staging, rows, labels, addresses, version=rewrite.version)
        first += rows.stop
    return parts


def _moved(
    before: LanceDataset, staging: Staging, index: Index, old: Sequence[RowRange]
) -> Iterator[pa.Table]:
    first = 0
    for rows in old:
        live = _live_offsets(before, rows)
        for table in staged_labels(staging, index.over(rows)):
            offsets = table[OFFSET].to_numpy().astype(np.int64)
            places = np.searchsorted(live, offsets)
            is_live = np.isin(offsets, live)
            column = pa.array(first + places[is_live])
            kept = table.filter(pa.array(is_live))
            yield kept.set_column(kept.schema.get_field_index(OFFSET), OFFSET, column)
        first += len(live)


def _found_by_digest(job: Job, staging: Staging, index: Index, move: Replacement) -> list[Part]:
    before = open_dataset(staging.location, move.version - 1)
    after = open_dataset(staging.location, move.version)
    if not set(job.reads) <= set(before.schema.names) & set(after.schema.names):
        return []
    known = {rows.source for rows in ranges_of(before, job.reads)} | index.by_source.keys()
    new = [rows for rows in ranges_of(after, job.reads) if rows.source not in known]
    lost = list(_lost(before, after, job, staging, index)) if new else []
    if not lost:
        return []
    labels = pa.concat_tables(lost).combine_chunks()
    # The newer are last, and win.
    by_digest = {digest: at for at, digest in enumerate(labels[job.digest_column].to_pylist())}
    parts = []
    for rows in new:
        digests = _digests(after, job, rows)
        addresses = np.array([place for place, digest in digests if digest in by_digest], np.int64)
        taken = labels.take(pa.array([by_digest[d] for _, d in digests if d in by_digest], pa.int64()))
        parts += _staged_again(staging, rows, taken, addresses, version=after.version)
    return parts


def _lost(
    before: LanceDataset, after: LanceDataset, job: Job, staging: Staging, index: Index
) -> Iterator[pa.Table]:
    """Give the staged labels of rows that are no longer where they were."""
    there = {rows.source: rows for rows in ranges_of(after, job.reads)}
    rows_after = {each.fragment_id: each.metadata.num_rows for each in after.get_fragments()}
    rows_before = {each.fragment_id: each.metadata.num_rows for each in before.get_fragments()}
    for rows in ranges_of(before, job.reads):
        is_there = rows.source in there
        if is_there and rows_before[rows.fragment] == rows_after.get(rows.fragment):
            continue
        live = _live_offsets(after, there[rows.source]) if is_there else np.empty(0, np.int64)
        for table in staged_labels(staging, index.over(rows)):
            yield table.filter(pa.array(~np.isin(table[OFFSET].to_numpy(), live)))


def _digests(dataset: LanceDataset, job: Job, rows: RowRange) -> list[tuple[int, int]]:
    """Give the address of each row, and the digest of what the tagger reads of it."""
    found = []
    for batch in scan(dataset, [rows], job.reads, row_bytes=row_bytes(dataset)):
        values = [batch.column(column).to_pylist() for _, column in job.inputs]
        for place, *row in zip(batch.column("_rowaddr").to_pylist(), *values, strict=True):
            inputs = {role: value for (role, _), value in zip(job.inputs, row, strict=True)}
            found.append((place, input_digest(inputs)))
    return found


def _staged_again(
    staging: Staging, rows: RowRange, labels: pa.Table, addresses: npt.NDArray[np.int64], *, version: int
) -> list[Part]:
    if not len(labels):
        return []
    [batch] = labels.drop_columns([OFFSET]).combine_chunks().to_batches()
    return staging.stage(Chunk.of([rows]), batch, addresses, version=version)[0]


def _live_offsets(dataset: LanceDataset, rows: RowRange) -> npt.NDArray[np.int64]:
    found = [
        batch["_rowaddr"].to_numpy().astype(np.int64) & 0xFFFFFFFF for batch in scan(dataset, [rows], [])
    ]
    return np.concatenate(found) if found else np.empty(0, np.int64)
