"""What a task leaves of its shards: data files, staged text, types and the ledger, as plain values."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from laketag.errors import ShardRefused
from laketag.lake.staged import StagedFiles
from laketag.shards.json_types import MAX_KEYS, Type, type_of, unite
from laketag.shards.ledger import Ledger

MAX_MEMBERS = 500
"""More different extensions than this are no data set's columns."""
_KINDS = ("int", "utf8", "bytes")


@dataclass(frozen=True)
class TypedFile:
    """The second data file of a fragment, made with the types that its worker knew of."""

    name: str
    """The data file's name."""
    size: int
    """Its bytes."""
    columns: tuple[tuple[str, str], ...]
    """The source and the Arrow type of each of its columns, in order."""


@dataclass(frozen=True)
class Piece:
    """A fragment to be: its first data file, and the staged text that its second one is made of."""

    file: str
    """The data file's name."""
    size: int
    """Its bytes."""
    rows: int
    """How many rows."""
    columns: tuple[str, ...]
    """What the data file holds: keys, URLs, offsets and member columns, by extension."""
    parts: tuple[str, ...]
    """Names of the staged text files, in row order."""
    typed: TypedFile | None = None
    """The second data file, where there is one already."""

    @property
    def files(self) -> list[str]:
        """Name its data files."""
        return [self.file, *([self.typed.name] if self.typed is not None else [])]

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Piece:
        """Make it again from what JSON made of it."""
        typed = raw["typed"] and TypedFile(**{**raw["typed"], "columns": _pairs(raw["typed"]["columns"])})
        lists = {name: tuple(raw[name]) for name in ("columns", "parts")}
        return cls(**{**raw, **lists, "typed": typed})


def _pairs(raw: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((source, arrow) for source, arrow in raw)


@dataclass
class Observed:
    """The columns that samples bring, and their types so far."""

    members: dict[str, str]
    """By column: `int`, `utf8` or `bytes`, each holding what those before it hold."""
    keys: dict[str, Type] | None
    """Types of the JSON's top-level keys; None where they are too many to be columns."""

    def see_member(self, column: str, kind: str) -> None:
        """Widen a member column."""
        old = self.members.get(column)
        if old == kind:
            return
        if old is None and len(self.members) >= MAX_MEMBERS:
            raise ShardRefused(
                f"the shards have more than {MAX_MEMBERS} different extensions (as {column!r}): a name is "
                "split at its first dot, so rename the members to KEY.EXTENSION"
            )
        if old is None or _KINDS.index(kind) > _KINDS.index(old):
            self.members[column] = kind

    def see_json(self, values: Mapping[str, Any]) -> None:
        """Widen the types of the keys of one JSON object."""
        if self.keys is None:
            return
        for key, value in values.items():
            self._widen(key, type_of(value))

    def see(self, other: Observed) -> None:
        """Widen by what another task observed."""
        for column, held in other.members.items():
            self.see_member(column, held)
        if other.keys is None:
            self.keys = None
        for key, kind in (other.keys or {}).items():
            self._widen(key, kind)

    def _widen(self, key: str, kind: Type) -> None:
        if self.keys is None:
            return
        old: Type | None = self.keys.get(key)
        if old is None and len(self.keys) >= MAX_KEYS:
            self.keys = None
        elif old != kind:
            self.keys[key] = kind if old is None else unite(old, kind)


@dataclass(frozen=True)
class Record:
    """One task, done."""

    index: int
    """The task's place in the plan."""
    ledgers: tuple[Ledger, ...]
    """Of each shard, in order."""
    pieces: tuple[Piece, ...]
    """Fragments to be, in order; the rows of the shards, one shard after the other."""
    observed: Observed
    """Columns and types."""
    written: int = 0
    """Bytes that the task wrote."""
    read: int = 0
    """Bytes that it read of its shards."""

    def to_json(self) -> str:
        """Give it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Make it again from `to_json`."""
        raw = json.loads(text)
        pieces = map(Piece.of, raw["pieces"])
        ledgers = tuple(Ledger(**each) for each in raw["ledgers"])
        return cls(
            raw["index"], ledgers, tuple(pieces), Observed(**raw["observed"]), raw["written"], raw["read"]
        )


_RECORD = "record-"


def stage_record(staged: StagedFiles, record: Record) -> int:
    """Stage a record: from now on its shards are not read again. Returns the bytes written."""
    name = f"{_RECORD}{record.index:08d}-{uuid.uuid4().hex}.lance"
    return staged.write(name, pa.table({"record": [record.to_json()]}))


def read_records(staged: StagedFiles) -> tuple[dict[int, Record], list[Record]]:
    """Read what is staged: one record for each task done, and those of tasks that were done twice."""
    records: dict[int, Record] = {}
    spare = []
    for name in staged.names():
        if name.startswith(_RECORD):
            record = Record.from_json(staged.read(name)["record"][0].as_py())
            if record.index in records:
                spare.append(record)
            else:
                records[record.index] = record
    return records, spare


def observe_all(records: Iterable[Record]) -> Observed:
    """Unite what all tasks observed."""
    union = Observed({}, {})
    for record in records:
        union.see(record.observed)
    return union
