"""Which rows an epoch has, in which order, and whose they are: arithmetic on places, no row is read here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from laketag.errors import TrainingError

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """One rank's share of every epoch: consecutive places of the epoch's order."""

    rank: int = 0
    world_size: int = 1
    even: bool = False
    """Whether every rank has as many rows: the last few of an epoch, fewer than the ranks, are left out."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            TrainingError: there is no such rank.
        """
        if not 0 <= self.rank < self.world_size:
            raise TrainingError(
                f"rank {self.rank} of {self.world_size} does not exist; ranks count from 0 to world_size - 1"
            )

    def bounds(self, rows: int) -> tuple[int, int]:
        """Give the first place of the share, and one past the last."""
        if self.even:
            rows -= rows % self.world_size
        return self.rank * rows // self.world_size, (self.rank + 1) * rows // self.world_size


@dataclass(frozen=True)
class Order:
    """The order of an epoch's rows; the same on every machine."""

    shuffle: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            TrainingError: no order follows from the seed.
        """
        if self.seed < 0:
            raise TrainingError(f"the seed is {self.seed}; give a whole number from 0 on")

    def places(self, rows: int, epoch: int, share: Share) -> Places:
        """List a share's rows, by their places in the dataset's own order."""
        first, last = share.bounds(rows)
        if not self.shuffle:
            return np.arange(first, last, dtype=np.int64)
        shuffled = np.random.default_rng([self.seed, epoch]).permutation(rows)
        return shuffled[first:last].astype(np.int64)


@dataclass(frozen=True)
class Worker:
    """One of the processes that read for a rank."""

    number: int = 0
    workers: int = 1
    is_apart: bool = False
    """Whether it is a process of its own, apart from the loop that uses the rows."""

    def of(self, places: Places, block: int) -> Places:
        """Keep this worker's blocks of so many places: every so many-th.

        A loader asks its workers in turn, a block each, so that blocks arrive in their order however many
        workers there are.
        """
        is_mine = np.arange(len(places)) // block % self.workers == self.number
        mine: Places = places[is_mine]
        return mine
