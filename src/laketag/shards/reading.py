"""One task of an import: read its shards once, write their data files, stage the record."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from laketag.engines import stopping
from laketag.errors import Interrupted, ShardError
from laketag.lake.location import Location
from laketag.lake.patience import explained
from laketag.lake.staged import StagedFiles
from laketag.shards.form import Form
from laketag.shards.fragments import FragmentWriter
from laketag.shards.json_values import Unreadable, parse
from laketag.shards.ledger import Ledger
from laketag.shards.record import Observed, Record, stage_record
from laketag.shards.remote import look_again
from laketag.shards.samples import TEXT_COLUMNS, Choice, Sample, Unordered, read_joined, read_samples
from laketag.shards.schema import Column, plan_columns
from laketag.shards.shard import Shard
from laketag.shards.typed import is_typed, text_kind

SKIPPED = 4 << 20
"""A dry run does not read images and the like of this size and more; below it, skipping saves no time."""


@dataclass(frozen=True)
class ImportTask:
    """Shards that are read together, one after the other."""

    index: int
    """Its place in the plan."""
    location: Location
    """The dataset's."""
    folder: str
    """Where it stages; nothing is written where it is empty."""
    shards: tuple[Shard, ...]
    """What to read."""
    form: Form
    """How rows are stored."""
    have: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    """Keys by URL that the dataset has already."""
    existing: pa.Schema | None = field(default=None, repr=False)
    """The dataset's columns; None where there is no dataset."""


def import_shards(task: ImportTask) -> Record:
    """Read a task's shards and stage them; returns the record.

    Raises:
        ShardError: a shard cannot be read at all, or changed meanwhile.
        Interrupted: the worker was asked to stop.
    """
    with explained(task.location.uri):
        try:
            record = _read(task, joined=False)
        except Unordered:
            record = _read(task, joined=True)
        if task.folder:
            stage_record(StagedFiles(task.location, task.folder), record)
    return record


def _read(task: ImportTask, *, joined: bool) -> Record:
    observed, choice = Observed({}, {}), _choice(task)

    def typed() -> list[Column]:
        return [each for each in plan_columns(observed, task.existing)[0] if is_typed(each)]

    writer = FragmentWriter(task.location, StagedFiles(task.location, task.folder), task.form, typed)
    ledgers = []
    try:
        for shard in task.shards:
            ledger = Ledger(shard.url)
            ledgers.append(ledger)
            for sample in _samples(shard, ledger, choice, joined=joined):
                if stopping.requested():
                    raise Interrupted("the import was stopped; run the same command again to go on")
                ledger.samples += 1
                if sample.key in task.have.get(shard.url, ()):
                    continue
                ledger.rows += 1
                observe(sample, observed, ledger)
                if task.folder:
                    writer.add(shard.url, sample)
        pieces = writer.close()
    except BaseException:
        writer.abort()
        raise
    return Record(task.index, tuple(ledgers), tuple(pieces), observed, writer.written, choice.taken)


def _choice(task: ImportTask) -> Choice:
    """Say which bodies are read: no linked ones, and in a dry run none whose skipping saves reads."""
    if task.form.links:
        return Choice(lambda column, size: task.form.is_linked(column), needs_places=True, is_sparing=True)
    if task.folder:
        return Choice()
    return Choice(lambda column, size: size >= SKIPPED and column not in TEXT_COLUMNS, is_sparing=True)


def _samples(shard: Shard, ledger: Ledger, choice: Choice, *, joined: bool) -> Iterator[Sample]:
    try:
        yield from (read_joined if joined else read_samples)(shard, ledger, choice)
        now = _now(shard) if shard.is_local else look_again(shard)
    except OSError as error:
        raise ShardError(f"shard {shard.url} cannot be read: {error.strerror or error}") from error
    if not shard.is_still(now):
        raise ShardError(f"shard {shard.url} changed while it was read; run the same command again")


def _now(shard: Shard) -> Shard:
    status = os.stat(shard.path)
    return replace(shard, size=status.st_size, modified=status.st_mtime_ns)


def observe(sample: Sample, observed: Observed, ledger: Ledger) -> None:
    """Take the types of one sample into account."""
    for column, body in sample.members.items():
        observed.see_member(column, text_kind(column, bytes(body)) if column in TEXT_COLUMNS else "bytes")
    for column in sample.places:
        observed.see_member(column, "bytes")
    raw = sample.members.get("json")
    if raw is None:
        return
    try:
        observed.see_json(parse(bytes(raw)))
    except Unreadable as reason:
        ledger.skip(f"{sample.key}.json", f"{reason}: the text is kept, and gives no columns")
