"""Passes over a plan's rows: what PyTorch iterates over, in its own process or in a loader's workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from laketag.errors import MissingExtra, TrainingError
from laketag.training.epochs import Order, Share, Worker
from laketag.training.rows import Reader, Rows

_EPOCH, _SKIP, _PASSES = 0, 1, 2
_MOST_WORKERS = 1024


@dataclass(frozen=True)
class Plan:
    """What a dataset gives; a value that goes to its workers."""

    rows: Rows
    order: Order
    share: Share
    batch_size: int | None
    transform: Callable[[dict[str, Any]], Any] | None = None
    collate: Callable[[list[Any]], Any] | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Say what a state belongs to: which rows, in which order, and whose."""
        share, order = self.share, self.order
        return {
            "at": self.rows.version,
            "where": self.rows.where,
            "shuffle": order.shuffle,
            "seed": order.seed,
            "rank": share.rank,
            "world_size": share.world_size,
            "even": share.even,
        }

    def check(self, state: Mapping[str, Any]) -> None:
        """Refuse a state of other rows.

        Raises:
            TrainingError: it is of other rows, another order, or another rank.
        """
        for name, value in self.identity.items():
            if state["of"][name] != value:
                raise TrainingError(
                    f"the state is of a dataset with {name}={state['of'][name]!r}, and this one has "
                    f"{name}={value!r}; make it with the same options"
                )


def made(plan: Plan, shared: Any = None) -> Any:
    """Make the dataset of a plan; in a worker, with what it shares with the loop."""
    return _kind()(plan, shared)


@lru_cache(maxsize=1)
def _kind() -> type:
    """Make the class that PyTorch knows; instances travel by their plan, never by their class."""
    about = {"__doc__": "Rows of a Lance dataset; see `laketag.torch_dataset`."}
    return type("TorchDataset", (Passes, torch().utils.data.IterableDataset), about)


class Passes:
    """Passes over the rows of a plan, and how far the present one is."""

    def __init__(self, plan: Plan, shared: Any = None) -> None:
        self.plan = plan
        # Shared with workers, some of which outlive a pass: the epoch, the rows that the pass after a
        # `load_state_dict` leaves out, and how many passes each worker has begun since.
        begun = torch().zeros(2 + _MOST_WORKERS, dtype=torch().int64)
        self._shared = begun.share_memory_() if shared is None else shared
        self._process = os.getpid()
        self._is_elsewhere = False
        self._own: tuple[int, int] | None = None
        self._skip, self._rows = 0, 0
        self._reader: Reader | None = None

    def __reduce__(self) -> Any:
        self._is_elsewhere = True
        return made, (self.plan, self._shared)

    @property
    def rows(self) -> int:
        """How many rows this rank has in an epoch."""
        first, last = self.plan.share.bounds(len(self._open().addresses))
        return last - first

    @property
    def epoch(self) -> int:
        """The epoch that the next pass reads."""
        return int(self._shared[_EPOCH])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from its first row on; to be called before each pass, on every rank.

        The pass after a `load_state_dict` still begins where the state was taken, if it is of that epoch.
        """
        is_loaded = bool(self._shared[_SKIP]) and not self._shared[_PASSES:].any()
        if not (is_loaded and epoch == self.epoch):
            self._begin_at(epoch, 0)

    def _begin_at(self, epoch: int, skip: int) -> None:
        self._skip, self._rows = skip, 0
        self._shared.zero_()
        self._shared[_EPOCH], self._shared[_SKIP] = epoch, skip

    def __iter__(self) -> Iterator[Any]:
        reader, worker = self._open(), _worker()
        # At once, and not with the first row: a state may be taken before that.
        self._skip, self._rows = self._begin(worker)
        places = self.plan.order.places(len(reader.addresses), self.epoch, self.plan.share)[self._skip :]
        mine = worker.of(places, self.plan.batch_size or 1)[self._rows :]
        return self._given(reader.read(mine))

    def _given(self, rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
        """Give rows, or batches of them, and count them."""
        given = rows if self.plan.transform is None else map(self.plan.transform, rows)
        if self.plan.batch_size is None:
            for row in given:
                self._rows += 1
                yield row
            return
        collate = self.plan.collate or torch().utils.data.default_collate
        while batch := list(islice(given, self.plan.batch_size)):
            self._rows += len(batch)
            yield collate(batch)

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Say how far this pass is.

        Args:
            batches: how many batches of this pass were used, where workers read them ahead; `batch_size` must
                have been given.

        Raises:
            TrainingError: workers read ahead, and only the loop knows what it used of that.
        """
        state = {"epoch": self.epoch, "of": self.plan.identity, "worker": None}
        if batches is not None:
            if self.plan.batch_size is None:
                raise TrainingError("batches can be counted where torch_dataset was given a batch_size only")
            is_first = int(self._shared[_PASSES:].max()) <= 1
            skip = int(self._shared[_SKIP]) if is_first else 0
            return state | {"skip": skip, "rows": min(batches * self.plan.batch_size, self.rows - skip)}
        if self._is_elsewhere:
            raise TrainingError(
                "workers read ahead, so only the loop knows how far it is: give state_dict(batches=...), or "
                "take torchdata's StatefulDataLoader"
            )
        return state | {"skip": self._skip, "rows": self._rows, "worker": self._place()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass begin where a state was taken.

        Raises:
            TrainingError: the state is of other rows, another order, or another rank or worker.
        """
        self.plan.check(state)
        here = self._place()
        if state["worker"] is not None and state["worker"] != here:
            raise TrainingError(
                f"the state is of a worker with {state['worker']}, and this is one with {here}; "
                "load it with as many workers, and the same batch_size"
            )
        if state["worker"] is not None:
            self._shared[_EPOCH] = state["epoch"]
            self._own = (state["skip"], state["rows"])
            return
        self._begin_at(state["epoch"], state["skip"] + state["rows"])

    def _place(self) -> dict[str, int] | None:
        """Say which blocks of rows are a worker's; None in the loop's own process, which has all."""
        worker = _worker()
        if not worker.is_apart:
            return None
        return {"number": worker.number, "workers": worker.workers, "batch_size": self.plan.batch_size or 1}

    def _begin(self, worker: Worker) -> tuple[int, int]:
        """Give the rows of the rank's share, and of this worker's part of the rest, that are left out."""
        if self._own is not None:
            own, self._own = self._own, None
            return own
        self._shared[_PASSES + worker.number] += 1
        is_first = int(self._shared[_PASSES + worker.number]) == 1
        return (int(self._shared[_SKIP]) if is_first else 0), 0

    def _open(self) -> Reader:
        if os.getpid() != self._process:
            raise TrainingError(
                "Lance does not survive a fork: give the DataLoader "
                'multiprocessing_context="spawn" (or "forkserver")'
            )
        if self._reader is None:
            self._reader = Reader(self.plan.rows)
        return self._reader


def torch() -> Any:
    """Import PyTorch.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import torch as package
    except ImportError as error:
        raise MissingExtra("torch_dataset needs PyTorch: pip install 'laketag[torch]'") from error
    return package


def _worker() -> Worker:
    info = torch().utils.data.get_worker_info()
    return Worker() if info is None else Worker(info.id, info.num_workers, is_apart=True)
