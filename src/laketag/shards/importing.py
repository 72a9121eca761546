"""`import`: WebDataset shards become a Lance dataset, on the line, with shards for fragments."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from typing import Any, TypeVar

from laketag.engines.local import Local
from laketag.engines.protocol import Engine, Progress, Teller, require_engine
from laketag.errors import CommitError
from laketag.lake.adding import (
    IMPORTING,
    DataFileOf,
    NewFragment,
    append_fragments,
    create_dataset,
    verify_fragments,
)
from laketag.lake.answering import watching
from laketag.lake.columns import delete_data_file
from laketag.lake.dataset import open_dataset
from laketag.lake.explaining import explaining
from laketag.lake.lease import leased
from laketag.lake.links import Link, note_links
from laketag.lake.location import Location
from laketag.lake.presence import keys_of
from laketag.lake.probing import require_put_if_absent
from laketag.lake.sharing import on_shared_disk
from laketag.lake.staged import StagedFiles, without_empty_folders
from laketag.lake.transactions import JOB_KEY
from laketag.lake.writing import dataset_schema, have_data_files
from laketag.shards.imported import Imported, announce, confirm
from laketag.shards.ledger import Ledger
from laketag.shards.plan import Job, plan
from laketag.shards.reading import import_shards
from laketag.shards.record import Piece, Record, observe_all, read_records
from laketag.shards.repeats import find_repeated_keys
from laketag.shards.report import ImportReport
from laketag.shards.schema import Clash, Column, plan_columns
from laketag.shards.settings import ImportSettings
from laketag.shards.sources import find_shards, names_of, places_of
from laketag.shards.typed import TypedTask, fits, is_typed, write_typed

T = TypeVar("T")
R = TypeVar("R")


@explaining
def import_(
    shards: Sequence[str | PathLike[str]],
    uri: str | PathLike[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    settings: ImportSettings = ImportSettings(),
    engine: Engine = Local(),
) -> ImportReport:
    """Import shards into a dataset, or go on with an import that was broken off.

    Each shard is read once. Nothing is visible before the one transaction at the end, and the same call again
    imports nothing twice: it adds the samples that are missing.

    Args:
        shards: tars, folders, globs, brace ranges, `@LIST`.
        uri: where the dataset is, or is made.
        storage_options: as Lance takes them.
        settings: how to import.
        engine: where tasks run; one process on this machine by default.

    Raises:
        WrongUsage: the engine is none.
        ShardNotFound: an argument names no shard.
        ShardRefused: an argument is of a kind that is not read.
        ShardError: a shard cannot be read at all.
        JobRefused: the dataset exists, and these are other shards; or the same import is at work.
        CommitError: no version could be made; what was read stays staged.
    """
    started = time.monotonic()
    require_engine(engine)
    shards = [shards] if isinstance(shards, str | PathLike) else shards
    location = Location.of(uri, storage_options)
    names = names_of([fspath(each) for each in shards])
    # Where only one store is told of, the shards lie there, too.
    options = settings.shard_options or location.storage_options
    with _watched(names, location, settings):
        job = plan(find_shards(names, options), location, settings)
        run = _Import(job, engine)
        if settings.dry_run or not job.pending.shards:
            return run.report(run.finish(), time.monotonic() - started)
        require_put_if_absent(location)
        with without_empty_folders(location), leased(location, IMPORTING, "this import", job.digest):
            return run.report(run.finish(), time.monotonic() - started)


@contextmanager
def _watched(names: Sequence[str], location: Location, settings: ImportSettings) -> Iterator[None]:
    options = settings.shard_options or location.storage_options
    with ExitStack() as held:
        for place in places_of(names):
            # Who watches the dataset's own store watches the shards that lie there.
            is_watched = not settings.shard_options and location.uri.startswith(f"{place}/")
            if settings.tell is not None and not is_watched:
                held.enter_context(watching(Location.of(place, options), settings.tell))
        yield


@dataclass
class _Import:
    """One run of a job; each step leaves what the next one needs."""

    job: Job
    engine: Engine
    records: list[Record] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)
    """Data files that the version does not need."""
    columns: list[Column] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)
    repeats: list[dict[str, str]] = field(default_factory=list)
    bytes_read: int = 0
    bytes_written: int = 0
    teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        self.teller = Teller(self.job.settings.progress)

    def finish(self) -> int | None:
        """Do what is left to do; returns the dataset's version, None where there is no dataset."""
        job = self.job
        if job.pending.shards:
            self._read()
            observed = observe_all(self.records)
            self.columns, self.clashes = plan_columns(observed, job.existing)
            if not job.settings.dry_run:
                return self._commit()
        elif not job.settings.dry_run:
            self._tidy()
        return open_dataset(job.location).version if job.existing is not None else None

    @property
    def ledgers(self) -> list[Ledger]:
        """Of the shards that this job reads, in order."""
        return [ledger for record in self.records for ledger in record.ledgers]

    def _read(self) -> None:
        tasks = self.job.tasks()
        records: dict[int, Record] = {}
        if self.job.folder:
            records, twice = read_records(StagedFiles(self.job.location, self.job.folder))
            self.spare += [name for record in twice for piece in record.pieces for name in piece.files]
            # Lance's own cleanup takes data files that stay uncommitted for a week.
            for index, record in list(records.items()):
                names = [name for piece in record.pieces for name in piece.files]
                if not have_data_files(self.job.location, names):
                    self.spare += names
                    records.pop(index)
        sizes = [sum(shard.size for shard in task.shards) for task in tasks]
        self._tell(sum(sizes[index] for index in records), sum(sizes), "reading shards")
        todo = [task for task in tasks if task.index not in records]
        for record in self._run(import_shards, todo):
            records[record.index] = record
            self.bytes_read += record.read
            self.bytes_written += record.written
            self._tell(sum(sizes[index] for index in records), sum(sizes), "reading shards")
        self.records = [records[index] for index in sorted(records)]

    def _commit(self) -> int | None:
        job = self.job
        self.repeats = find_repeated_keys(StagedFiles(job.location, job.folder), self.records)
        fragments = self._fragments()
        notes = [
            Imported.of(shard, job.folder, ledger)
            for shard, ledger in zip(job.pending.shards, self.ledgers, strict=True)
        ]
        version = None if job.existing is None else open_dataset(job.location).version
        announced = None
        if fragments:
            verify_fragments(job.location, fragments)
            announced = announce(job.location, job.digest, version or 0, notes)
            version = self._add(fragments)
            self._tell(len(fragments), len(fragments), "committed", "fragments")
        if version is not None:
            confirm(job.location, version, notes, announced)
        self._tidy()
        return version

    def _tidy(self) -> None:
        """Delete what is staged, also what an import left that ended right after its commit."""
        job = self.job
        for name in self.spare:
            delete_data_file(job.location, name)
        for folder in (job.folder, *job.pending.folders):
            staged = StagedFiles(job.location, folder)
            staged.delete(staged.names())

    def _fragments(self) -> list[NewFragment]:
        """Put the data files of each fragment together."""
        pieces = [piece for record in self.records for piece in record.pieces]
        files = self._typed_files(pieces)
        names = {each.source.removeprefix("member:"): each.name for each in self.columns}
        fragments = []
        for index, piece in enumerate(pieces):
            first = DataFileOf(
                piece.file, (*piece.columns[:3], *(names[c] for c in piece.columns[3:])), piece.size
            )
            fragments.append(NewFragment(piece.rows, (first, *([files[index]] if index in files else []))))
        return fragments

    def _typed_files(self, pieces: list[Piece]) -> dict[int, DataFileOf]:
        """Give the second data file of each fragment; what is not there, or does not fit, is written."""
        job, files = self.job, {}
        typed = {each.source: each for each in self.columns if is_typed(each)}
        tasks = []
        for index, piece in enumerate(pieces):
            if piece.typed is not None and fits(piece.typed, typed):
                held = tuple(typed[source].name for source, _ in piece.typed.columns)
                files[index] = DataFileOf(piece.typed.name, held, piece.typed.size)
            elif typed:
                self.spare += piece.files[1:]
                storage, columns = job.form.storage_version, tuple(typed.values())
                tasks.append(TypedTask(index, job.location, job.folder, storage, piece.parts, columns))
        for index, file in self._run(write_typed, tasks) if tasks else ():
            files[index] = file
            self.bytes_written += file.size
            self._tell(len(files), len(pieces), "making typed columns", "fragments")
        return files

    def _add(self, fragments: list[NewFragment]) -> int:
        job = self.job
        blobs = {each.name for each in self.columns if job.form.is_blob(each.source.removeprefix("member:"))}
        schema = dataset_schema([each.field for each in self.columns], blobs)
        properties = {
            JOB_KEY: job.digest,
            "laketag.import": str(sum(fragment.rows for fragment in fragments)),
        }
        if job.existing is None:
            self._note_links()
            return create_dataset(job.location, schema, fragments, properties)
        urls = [shard.url for shard in job.pending.shards]
        have = job.pending.have

        def check(dataset: Any) -> None:
            if any(keys - have.get(url, frozenset()) for url, keys in keys_of(dataset, urls).items()):
                raise CommitError(
                    "another import added some of these shards meanwhile; "
                    "run the same command again for what is missing"
                )
            self._note_links()  # only now: of one that is refused no note may hold

        def waiting() -> None:
            self._tell(0, len(fragments), "waiting for others to commit", "fragments")

        return append_fragments(job.location, schema, fragments, properties, check, waiting)

    def _note_links(self) -> None:
        if self.job.settings.link:
            links = [Link(s.url, s.size, s.modified, s.etag) for s in self.job.pending.shards]
            note_links(self.job.location, links)

    def _run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        with ExitStack() as held:
            if self.job.folder:
                guard = on_shared_disk(self.job.location, IMPORTING, function, part=self.job.digest)
                function = held.enter_context(guard)
            yield from held.enter_context(closing(self.engine.run(function, tasks, self.teller.hear)))

    def _tell(self, done: int, total: int, note: str, unit: str = "bytes") -> None:
        self.teller.tell(Progress(done, total, unit, note))

    def _rows_of(self, version: int | None, added: int) -> int:
        if self.job.settings.dry_run or version is None:
            return self.job.rows_before + added
        return open_dataset(self.job.location, version).count_rows()  # others may have appended meanwhile

    def report(self, version: int | None, seconds: float) -> ImportReport:
        """Say what was done."""
        job = self.job
        ledgers = [*job.pending.done, *self.ledgers]
        skipped = [*(row for ledger in ledgers for row in ledger.skipped_rows()), *self.repeats]
        added = sum(ledger.rows for ledger in self.ledgers)
        named = {each.name: each.arrow for each in self.columns}
        shown = {**{each.name: each.type for each in job.existing or ()}, **named}
        return ImportReport(
            uri=job.location.uri,
            version=version,
            rows=self._rows_of(version, added),
            rows_added=added,
            samples=sum(ledger.samples for ledger in ledgers),
            shards=len(job.shards),
            complete=all(ledger.complete for ledger in ledgers),
            columns=tuple({"name": name, "type": str(arrow)} for name, arrow in shown.items()),
            bytes_shards=sum(shard.size for shard in job.shards),
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            skipped=tuple(skipped),
            lost=tuple(row for ledger in ledgers for row in ledger.lost_rows()),
            schema_clashes=tuple(asdict(clash) for clash in self.clashes),
            seconds=round(seconds, 3),
        )
