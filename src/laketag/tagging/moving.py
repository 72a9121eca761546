"""Staged labels of rows that others moved: staged again for where the rows lie now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import DatasetError
from laketag.lake.dataset import fragments_of, open_dataset
from laketag.lake.lineage import Rewrite, moves
from laketag.lake.reading import RowRange, address, live_addresses, ranges_of, row_bytes, scan, values
from laketag.taggers.digest import input_digest
from laketag.tagging.job import Job
from laketag.tagging.plan import Chunk
from laketag.tagging.staging import ADOPTED, OFFSET, Index, Part, Reader, Staging, staged_addresses

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset


def follow(
    dataset: LanceDataset,
    job: Job,
    staging: Staging,
    index: Index,
    *,
    since: int = 0,
    still: frozenset[int] = frozenset(),
) -> Index:
    """Add to an index what was staged for rows that lie elsewhere now.

    Rows of a compacted fragment are the live rows of the old ones, in their order, so that a label's new
    place is counted. Rows that an update moved are found by the digest of what was read for them, which
    also says that nothing of it changed; so are those of a compaction where the version before it was cleaned
    away. Where the compaction itself was, the labels stay where they are.

    Args:
        dataset: at the version up to which to follow.
        job: whose labels they are.
        staging: where they are staged.
        index: what is staged.
        since: the version up to which the index was followed before.
        still: versions that are known to have moved nothing.
    """
    if not index.by_source:
        return index
    moved = Moved(dataset, job, staging, index)
    since = max(since, min(part.version for part in index.parts))
    for move in moves(dataset, job.reads, since, still):
        if isinstance(move, Rewrite):
            moved.count(move)
        else:
            moved.doubtful |= move.sources
    # What `adopt` stages is no label yet, and says nothing of another row with the same image.
    if staging.work != ADOPTED:
        moved.find()
    return moved.index


@dataclass
class Moved:
    """Staged labels, followed move by move."""

    dataset: LanceDataset
    job: Job
    staging: Staging
    index: Index
    doubtful: set[str] = field(default_factory=set)
    """Sources whose rows may have lain elsewhere."""
    compacted: set[str] = field(default_factory=set)
    """Sources that were compacted; the labels of their live rows were followed."""
    gone: list[pa.Table] = field(default_factory=list)
    """Labels of rows that were not live when their source was compacted."""

    def count(self, rewrite: Rewrite) -> None:
        """Follow a compaction: the live rows of the old sources lie in the new ones, in their order."""
        known = self.index.by_source.keys()
        if not self.doubtful.isdisjoint(rows.source for rows in rewrite.old):
            self.doubtful |= {rows.source for rows in rewrite.new}
        if known.isdisjoint(rows.source for rows in rewrite.old):
            return
        try:
            self.index = self.index.plus(self._counted(rewrite))
        except DatasetError:  # the version before it was cleaned away
            self.doubtful |= {rows.source for rows in rewrite.new}
            return
        self.compacted |= {rows.source for rows in rewrite.old}

    def find(self) -> None:
        """Find the rows that updates moved by the digest of what the tagger reads of them."""
        if not self.doubtful:
            return
        there = {rows.source: rows for rows in ranges_of(self.dataset, self.job.reads)}
        ranges = [there[source] for source in sorted(self.doubtful & there.keys())]
        gone = [*self.gone, *self._not_live(there)] if ranges else []
        if not any(len(table) for table in gone):
            return
        found = pa.concat_tables(gone)
        is_failed = pc.is_valid(found[self.job.error_column])
        # The last wins: of images that are alike a label, and no failure of another row; else the newer.
        ordered = [found.filter(is_failed), found.filter(pc.invert(is_failed))]
        labels = pa.concat_tables(ordered).combine_chunks()
        by_digest = {digest: at for at, digest in enumerate(labels[self.job.digest_column].to_pylist())}
        for rows in ranges:
            digests = self._digests(rows)
            addresses = np.array([place for place, digest in digests if digest in by_digest], np.int64)
            taken = labels.take(pa.array([by_digest[d] for _, d in digests if d in by_digest], pa.int64()))
            version = self.dataset.version
            self.index = self.index.plus(_staged_again(self.staging, rows, taken, addresses, version=version))

    def _counted(self, rewrite: Rewrite) -> list[Part]:
        before = open_dataset(self.staging.location, rewrite.version - 1)
        table = _newest(pa.concat_tables(self._live(before, rewrite.old)).combine_chunks())
        places = table[OFFSET].to_numpy().astype(np.int64)
        parts, first = [], 0
        for rows in rewrite.new:
            here = slice(*np.searchsorted(places, [first, first + rows.stop]))
            addresses = places[here] - first + address(rows.fragment, 0)
            # Some may have been followed before: by a run that broke off, by another slice.
            is_new = ~np.isin(addresses, staged_addresses(self.staging, self.index, Chunk.of([rows])))
            labels = table.slice(here.start, here.stop - here.start).filter(pa.array(is_new))
            parts += _staged_again(self.staging, rows, labels, addresses[is_new], version=rewrite.version)
            first += rows.stop
        return parts

    def _live(self, before: LanceDataset, old: Sequence[RowRange]) -> Iterator[pa.Table]:
        first = 0
        reader = Reader(self.staging)
        for rows in old:
            live = _live_offsets(before, rows)
            for table in reader.tables(self.index.over(rows)):
                offsets = table[OFFSET].to_numpy().astype(np.int64)
                is_live = np.isin(offsets, live)
                self.gone.append(table.filter(pa.array(~is_live)))
                kept = table.filter(pa.array(is_live))
                column = pa.array(first + np.searchsorted(live, offsets[is_live]))
                yield kept.set_column(kept.schema.get_field_index(OFFSET), OFFSET, column)
            first += len(live)

    def _not_live(self, there: Mapping[str, RowRange]) -> Iterator[pa.Table]:
        deletions = {each.id: each.num_deletions for each in fragments_of(self.dataset)}
        for source, parts in self.index.by_source.items():
            if source not in there and source in self.compacted:
                continue
            if source in there and not deletions[there[source].fragment]:
                continue
            live = _live_offsets(self.dataset, there[source]) if source in there else np.empty(0, np.int64)
            for table in Reader(self.staging).tables(sorted(parts, key=lambda part: part.age)):
                yield table.filter(pa.array(~np.isin(table[OFFSET].to_numpy(), live)))

    def _digests(self, rows: RowRange) -> list[tuple[int, int]]:
        """Give the address of each row without staged labels, and the digest of what the tagger reads."""
        staged = set(staged_addresses(self.staging, self.index, Chunk.of([rows])).tolist())
        found = []
        for batch in scan(self.dataset, [rows], self.job.reads, row_bytes=row_bytes(self.dataset)):
            # As workers see them: the digest of an array is not that of a list.
            columns = [values(batch.column(column)) for _, column in self.job.inputs]
            for place, *row in zip(batch.column("_rowaddr").to_pylist(), *columns, strict=True):
                if place not in staged:
                    inputs = {role: value for (role, _), value in zip(self.job.inputs, row, strict=True)}
                    found.append((place, input_digest(inputs)))
        return found


def _newest(labels: pa.Table) -> pa.Table:
    """Sort labels by their place; of several for one, which come in the order of their age, keep the last."""
    ordered = labels.sort_by(OFFSET)
    places = ordered[OFFSET].to_numpy()
    is_last = np.append(places[1:] != places[:-1], True)[: len(places)]
    return ordered.filter(pa.array(is_last))


def _staged_again(
    staging: Staging, rows: RowRange, labels: pa.Table, addresses: npt.NDArray[np.int64], *, version: int
) -> list[Part]:
    if not len(labels):
        return []
    [batch] = labels.drop_columns([OFFSET]).combine_chunks().to_batches()
    return staging.stage(Chunk.of([rows]), batch, addresses, version=version)[0]


def _live_offsets(dataset: LanceDataset, rows: RowRange) -> npt.NDArray[np.int64]:
    return live_addresses(dataset, [rows]) & 0xFFFFFFFF
