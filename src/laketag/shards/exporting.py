"""`export`: a selection as WebDataset shards or Parquet files, several at once, on every engine."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from laketag.engines.local import Local
from laketag.engines.protocol import Engine, Progress, Teller, require_engine
from laketag.errors import DatasetError, Interrupted, JobRefused
from laketag.lake.dataset import fragments_of, open_dataset, path_of
from laketag.lake.explaining import explaining
from laketag.lake.lease import leased
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.patience import explained
from laketag.lake.pinning import kept
from laketag.lake.reading import check_filter
from laketag.lake.staged import without_empty_folders
from laketag.shards import exported
from laketag.shards.exported import Begun, ExportReport
from laketag.shards.layout import Layout, chosen
from laketag.shards.pattern import Pattern
from laketag.shards.putting import CountTask, Destination, Output, Put, ShardTask, count_rows, put_shard
from laketag.shards.selected import Chosen, Cutter, Run, Sizes, in_order
from laketag.shards.settings import ExportSettings

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

T = TypeVar("T")
R = TypeVar("R")

COUNTED_ROWS = 1_000_000
"""A task counts the chosen rows of fragments that have about so many."""
_FORMAT = 2
"""Raised when equal rows become other bytes: shards of two formats are not mixed."""


@explaining
def export(
    uri: str | PathLike[str],
    pattern: str | PathLike[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    settings: ExportSettings = ExportSettings(),
    engine: Engine = Local(),
) -> ExportReport:
    """Write a selection as shards, or go on with an export that was broken off.

    Rows come in the dataset's order; each shard is whole or absent. The same call again writes only the
    shards that are missing, of the version that the first one read.

    Args:
        uri: the dataset.
        pattern: `FOLDER/PREFIX{000000..}.tar` or `.parquet`, or a folder.
        storage_options: as Lance takes them.
        settings: what to export, and how.
        engine: where tasks run; one process on this machine by default.

    Raises:
        WrongUsage: the engine is none.
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column.
        BadSQL: Lance cannot run the filter.
        ShardRefused: the pattern does not name shards.
        ShardError: a shard cannot be written.
        JobRefused: the place has shards of another export, or one is at work there.
        Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    started = time.monotonic()
    require_engine(engine)
    options = settings.shard_options or storage_options or {}
    location = Location.of(uri, storage_options)
    require_links(location)
    shards = Pattern.of(fspath(pattern), options)
    with _alone(shards):
        run = _plan(location, shards, settings, engine)
        name = f"an export to {shards.shown}"
        place = shards.folder.location.uri
        with kept(location, run.rows.version, run.job.hold, name), explained(place):
            run.finish()
        return run.report(time.monotonic() - started)


@contextmanager
def _alone(pattern: Pattern) -> Iterator[None]:
    """Hold the shards' names: two exports at once would put some of their shards over each other's."""
    place = pattern.state.location
    with without_empty_folders(place), leased(place, "export", f"an export to {pattern.shown}"):
        yield


def _plan(location: Location, pattern: Pattern, settings: ExportSettings, engine: Engine) -> _Export:
    before = exported.begun(pattern)
    dataset = _opened(location, settings.at, before)
    rows = Chosen(location, dataset.version, settings.where)
    output = _output(dataset, pattern, settings)
    digest = _digest(dataset, pattern, settings, output)
    if settings.where is not None:
        check_filter(dataset, settings.where)
    if before is None:
        job = exported.begin(pattern, digest, dataset.version)
        return _Export(rows, pattern, output, settings, engine, job)
    if before.digest != digest:
        raise JobRefused(
            f"{pattern.folder.location.uri} holds another export, of version {before.version}; "
            "name another folder, or delete this one"
        )
    latest = open_dataset(location).version
    if before.finished is not None and settings.at is None and latest != before.version:
        raise JobRefused(
            f"{pattern.folder.location.uri} holds the finished export of version {before.version}, and the "
            f"dataset is at version {latest}; name another folder, or ask for it with --at {before.version}"
        )
    return _Export(rows, pattern, output, settings, engine, before)


def _opened(location: Location, at: int | str | None, before: Begun | None) -> LanceDataset:
    if at is not None or before is None:
        return open_dataset(location, at)
    try:
        return open_dataset(location, before.version)
    except DatasetError as error:
        raise type(error)(
            f"{error}; an export goes on with the version that it began with, so name another folder"
        ) from error


def _output(dataset: LanceDataset, pattern: Pattern, settings: ExportSettings) -> Output:
    fields = chosen(dataset.schema, settings.columns, images=settings.images)
    if not fields:
        raise JobRefused("no column is left to export; name some, or leave --columns out")
    if pattern.is_tar:
        return Output((), Layout.of(dataset.schema, settings.columns, images=settings.images))
    return Output(tuple(each.name for each in fields), None)


def _digest(dataset: LanceDataset, pattern: Pattern, settings: ExportSettings, output: Output) -> str:
    """Say what determines the shards: which rows of which data files, and what becomes of them."""
    fragments = [
        (each.id, [path_of(file) for file in each.files], each.num_deletions)
        for each in fragments_of(dataset)
    ]
    asked = [settings.where, settings.samples_per_shard, settings.bytes_per_shard, asdict(output)]
    names = [pattern.first, pattern.width, pattern.ending]
    text = json.dumps([_FORMAT, dataset.version, fragments, asked, names])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class _Export:
    """One run of an export."""

    rows: Chosen
    pattern: Pattern
    output: Output
    settings: ExportSettings
    engine: Engine
    job: Begun
    puts: dict[int, Put] = field(default_factory=dict)
    written: int = 0
    teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        self.teller = Teller(self.settings.progress)

    def finish(self) -> None:
        """Write the shards that are missing."""
        tasks = self._tasks()
        self.puts = exported.found(self.pattern, self.job)
        total = sum(run.rows for task in tasks for run in task.runs)
        self._tell(self._samples, total, "writing shards")
        todo = [task for task in tasks if task.index not in self.puts]
        try:
            for put in self._run(put_shard, todo):
                self.puts[put.index] = put
                self.written += 1
                self._tell(self._samples, total, "writing shards")
        except KeyboardInterrupt:
            raise Interrupted(
                f"stopped: {len(self.puts)} of {len(tasks)} shards in their place; the same command goes on"
            ) from None
        if todo or self.job.finished is None:
            require_links(self.rows.location)  # a tar may have been replaced while it was read
            exported.finish(self.pattern, self.job, self.puts)

    def _tasks(self) -> list[ShardTask]:
        tasks, start = [], 0
        place = Destination(self.pattern.folder, self.pattern.state, self.job.digest)
        for index, runs in enumerate(self._shards()):
            name = self.pattern.name(index)
            tasks.append(ShardTask(index, name, place, self.rows, self.output, tuple(runs), start))
            start += sum(run.rows for run in runs)
        return tasks

    def _shards(self) -> Sequence[Sequence[Run]]:
        fragments = fragments_of(self.rows.open())
        size = self.settings.bytes_per_shard
        if size is not None and self.pattern.is_tar:
            # A tar is whole records, and ends with two blocks of nothing.
            size -= size % tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE
        cutter = Cutter(self.settings.samples_per_shard, size)
        for fragment, sizes in zip(fragments, self._sizes(), strict=True):
            cutter.add(fragment.id, sizes)
        return cutter.shards

    def _sizes(self) -> Iterator[Sizes]:
        """Count the chosen rows of every fragment; a worker does it where that reads any."""
        fragments = fragments_of(self.rows.open())
        if self.rows.where is None and self.settings.bytes_per_shard is None:
            return (np.zeros(each.num_rows, np.uint64) for each in fragments)
        output = self.output if self.settings.bytes_per_shard is not None else None
        tasks: list[CountTask] = []
        rows = COUNTED_ROWS
        for each in fragments:
            if rows >= COUNTED_ROWS:
                tasks.append(CountTask(len(tasks), self.rows, (), output))
                rows = 0
            last = tasks[-1]
            tasks[-1] = CountTask(last.index, self.rows, (*last.fragments, each.id), output)
            rows += each.physical_rows
        return in_order(self._counted(tasks, sum(each.physical_rows for each in fragments)))

    def _counted(self, tasks: list[CountTask], total: int) -> Iterator[tuple[int, list[Sizes]]]:
        for number, counted in enumerate(self._run(count_rows, tasks), 1):
            self._tell(total * number // len(tasks), total, "counting rows")
            yield counted

    def _run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        with closing(self.engine.run(function, tasks, self.teller.hear)) as results:
            yield from results

    @property
    def _samples(self) -> int:
        return sum(put.samples for put in self.puts.values())

    def _tell(self, done: int, total: int, note: str) -> None:
        self.teller.tell(Progress(done, total, "rows", note))

    def report(self, seconds: float) -> ExportReport:
        """Say what was done."""
        puts = self.puts.values()
        return ExportReport(
            uri=self.rows.location.uri,
            version=self.rows.version,
            folder=self.pattern.folder.location.uri,
            shards=len(puts),
            samples=self._samples,
            bytes=sum(put.bytes for put in puts),
            shards_written=self.written,
            renamed=sum(put.renamed for put in puts),
            index=self.pattern.path(self.pattern.index) if self.pattern.is_tar else None,
            seconds=round(seconds, 3),
        )
