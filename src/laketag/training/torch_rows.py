"""`torch_dataset`: a selection as a PyTorch dataset, split exactly, shuffled anew each epoch, resumable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from laketag.errors import TrainingError
from laketag.lake.explaining import all_explained
from laketag.lake.location import Location
from laketag.training.epochs import Order, Share
from laketag.training.passes import Plan, made, torch
from laketag.training.rows import Rows

if TYPE_CHECKING:
    from torch.utils.data import IterableDataset


class Options(TypedDict, total=False):
    """How `torch_dataset` is asked for rows."""

    where: str | None
    columns: Sequence[str] | None
    at: int | str | None
    decode: str
    transform: Callable[[dict[str, Any]], Any] | None
    shuffle: bool
    seed: int
    rank: int | None
    world_size: int | None
    even: bool
    batch_size: int | None
    collate: Callable[[list[Any]], Any] | None
    storage_options: Mapping[str, str] | None


def torch_dataset(uri: str | PathLike[str], **options: Unpack[Options]) -> IterableDataset[Any]:
    """Give the rows of a selection to PyTorch, as an `IterableDataset` of dicts by column.

    An epoch has every selected row once, over all ranks and workers together. A `DataLoader` with workers
    needs `multiprocessing_context="spawn"` (or `"forkserver"`).

    Args:
        uri: the dataset.
        **options: each may be left out.
            where: a filter, as `query` takes it.
            columns: which columns; images and all that `query` shows where not given.
            at: a version's number, or its name; the latest where not given. Ranks must read the same one.
            decode: images as uint8 `tensor` of 3 x height x width (the default), as `pil` or as `bytes`.
            transform: what becomes of each row; it must pickle.
            shuffle: whether each epoch has an order of its own.
            seed: of the orders, 0 where not given; the same on all ranks.
            rank, world_size: this process's share; those of `torch.distributed` where not given.
            even: leave out a few rows of each epoch, so that every rank has as many.
            batch_size: give batches instead of rows, for `DataLoader(..., batch_size=None)`; they come in an
                order that does not depend on the number of workers.
            collate: makes a batch of rows; PyTorch's own where not given.
            storage_options: as Lance takes them.

    Raises:
        MissingExtra: PyTorch is not installed.
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column.
        BadSQL: Lance cannot run the filter.
        TrainingError: the options do not make sense.
        StoreError: the store fails.
    """
    asked = _Asked(**options)
    location = Location.of(uri, asked.storage_options)
    with all_explained(location.uri):
        rows = Rows.of(location, asked.at, asked.where, asked.columns, asked.decode)
    share = Share(*_place(asked.rank, asked.world_size), asked.even)
    plan = Plan(
        rows, Order(asked.shuffle, asked.seed), share, asked.batch_size, asked.transform, asked.collate
    )
    dataset: IterableDataset[Any] = made(plan)
    return dataset


@dataclass(frozen=True)
class _Asked:
    """The options with their defaults; one that is unknown is a `TypeError`."""

    where: str | None = None
    columns: Sequence[str] | None = None
    at: int | str | None = None
    decode: str = "tensor"
    transform: Callable[[dict[str, Any]], Any] | None = None
    shuffle: bool = False
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None
    even: bool = False
    batch_size: int | None = None
    collate: Callable[[list[Any]], Any] | None = None
    storage_options: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise TrainingError(f"batches of {self.batch_size} rows are too small; give 1 or more")
        if isinstance(self.columns, str):
            raise TrainingError(f"columns are a list of names, as [{self.columns!r}]")


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if rank is not None and world_size is not None:
        return rank, world_size
    if rank is not None or world_size is not None:
        raise TrainingError("rank and world_size go together; give both, or neither")
    group = torch().distributed
    if group.is_available() and group.is_initialized():
        return group.get_rank(), group.get_world_size()
    return 0, 1
