"""The rows of a selection, by their place in it: counted per fragment, cut into shards, read in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import DatasetError
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import RowRange, live_addresses, row_bytes, scan, whole

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

Sizes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Chosen:
    """Some rows of one version of a dataset, in its order."""

    location: Location
    version: int
    where: str | None

    def open(self) -> LanceDataset:
        """Open that version."""
        return open_dataset(self.location, self.version)

    def addresses(self, dataset: LanceDataset, fragment: int) -> npt.NDArray[np.int64]:
        """List the chosen rows of a fragment, in order; no column but the filter's is read."""
        return live_addresses(dataset, [whole(dataset, fragment)], self.where)


@dataclass(frozen=True)
class Run:
    """Chosen rows of one fragment that follow each other."""

    fragment: int
    first: int
    """How many chosen rows of the fragment lie before."""
    rows: int


def read(chosen: Chosen, runs: Sequence[Run], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Stream the rows of some runs, in order.

    Raises:
        DatasetError: Lance gave other rows than it listed.
    """
    dataset = chosen.open()
    weight = row_bytes(dataset)
    for run in runs:
        wanted = chosen.addresses(dataset, run.fragment)[run.first : run.first + run.rows]
        offsets = wanted & 0xFFFFFFFF
        part = RowRange(run.fragment, "", int(offsets[0]), int(offsets[-1]) + 1)
        at = 0
        for batch in scan(dataset, [part], columns, where=chosen.where, row_bytes=weight):
            found = batch["_rowaddr"].to_numpy().astype(np.int64)
            if not np.array_equal(found, wanted[at : at + len(batch)]):
                break
            at += len(batch)
            yield batch.drop_columns(["_rowaddr"])
        if at != len(wanted):
            raise DatasetError(
                f"{chosen.location.uri} gave other rows of fragment {run.fragment} than it listed; "
                "run the same command again"
            )


@dataclass
class Cutter:
    """Cuts rows into shards, as they come, the first rows first."""

    most_rows: int
    """In one shard."""
    most_bytes: int | None
    """Likewise; a row that is larger has a shard of its own."""
    shards: list[list[Run]] = field(default_factory=list)
    _rows: int = 0
    _size: int = 0

    def add(self, fragment: int, sizes: Sizes) -> None:
        """Add the chosen rows of the next fragment, by their sizes; all 0 where sizes do not matter."""
        ends = np.cumsum(sizes)
        at = 0
        while at < len(sizes):
            if not self.shards or self._rows >= self.most_rows:
                self._begin()
            before = int(ends[at - 1]) if at else 0
            fit = min(self.most_rows - self._rows, len(sizes) - at)
            if self.most_bytes is not None:
                room = self.most_bytes - self._size + before
                fit = min(fit, int(np.searchsorted(ends, room, side="right")) - at)
            if fit <= 0 and self._rows:
                self._begin()
                continue
            fit = max(fit, 1)
            self.shards[-1].append(Run(fragment, at, fit))
            self._rows += fit
            self._size += int(ends[at + fit - 1]) - before
            at += fit

    def _begin(self) -> None:
        self.shards.append([])
        self._rows = self._size = 0


def in_order(counted: Iterable[tuple[int, list[Sizes]]]) -> Iterator[Sizes]:
    """Give the results of tasks in the order of the tasks, as early as that can be."""
    waiting: dict[int, list[Sizes]] = {}
    following = 0
    for index, sizes in counted:
        waiting[index] = sizes
        while following in waiting:
            yield from waiting.pop(following)
            following += 1
