"""Staged labels of rows that compaction moved: staged again for where the rows lie now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.lake.dataset import open_dataset
from laketag.lake.lineage import Rewrite, rewrites
from laketag.lake.reading import RowRange, address, ranges_of, scan
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import OFFSET, Index, Part, Staging, staged_labels

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


def follow(dataset: LanceDataset, columns: Sequence[str], staging: Staging, index: Index) -> Index:
    """Add to an index what was staged for sources that compaction has replaced since.

    Rows of a compacted fragment are the live rows of the old ones, in their order, so that a label's new
    place is counted, not searched. Where the history was cleaned away the labels stay where they are.
    """
    present = {rows.source for rows in ranges_of(dataset, columns)}
    if not index.by_source.keys() - present:
        return index
    for rewrite in rewrites(dataset, columns):
        is_known = any(rows.source in index.by_source for rows in rewrite.old)
        if is_known and not any(rows.source in index.by_source for rows in rewrite.new):
            index = index.plus(_staged_again(staging, index, rewrite))
    return index


def _staged_again(staging: Staging, index: Index, rewrite: Rewrite) -> list[Part]:
    before = open_dataset(staging.location, rewrite.version - 1)
    table = pa.concat_tables(_moved(before, staging, index, rewrite.old)).combine_chunks().sort_by(OFFSET)
    places = table[OFFSET].to_numpy().astype(np.int64)
    parts, first = [], 0
    for rows in rewrite.new:
        here = slice(*np.searchsorted(places, [first, first + rows.stop]))
        labels = table.slice(here.start, here.stop - here.start).drop_columns([OFFSET])
        if len(labels):
            addresses = places[here] - first + address(rows.fragment, 0)
            parts += staging.stage(Chunk.of([rows]), labels.combine_chunks().to_batches()[0], addresses)[0]
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


def _live_offsets(before: LanceDataset, rows: RowRange) -> npt.NDArray[np.int64]:
    found = [batch["_rowaddr"].to_numpy().astype(np.int64) & 0xFFFFFFFF for batch in scan(before, [rows], [])]
    return np.concatenate(found) if found else np.empty(0, np.int64)
