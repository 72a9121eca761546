"""The dataset's columns: what samples bring, named so that nothing clashes, typed so that nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from laketag.shards.form import ROW_FIELDS, storage_metadata
from laketag.shards.json_types import MAX_KEYS, Type, from_arrow, settle, to_arrow, unite
from laketag.shards.record import Observed
from laketag.shards.samples import TEXT_COLUMNS

SOURCE = b"laketag.import"
"""Field metadata: what an imported column is made of."""
_RESERVED = frozenset(
    (
        *("_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version"),
        *("_score", "_distance", "_relevance_score"),
    )
)
_AS_JSON = b"as JSON "
_ODD = re.compile(r"^\*$|[.`\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST = 200
_HOLDS = {
    pa.int64(): ("int",),
    pa.string(): ("int", "utf8"),
    pa.large_string(): ("int", "utf8"),
    pa.binary(): ("int", "utf8", "bytes"),
}
_NO_ONE_TYPE = "no one type holds all its values; strings are kept as they are, everything else as JSON text"
_MEMBER_TYPES = {"int": pa.int64(), "utf8": pa.string(), "bytes": pa.binary()}


def encode_source(source: str) -> bytes:
    """Write a column's source as metadata holds it: UTF-8, which lone surrogates of a JSON key are not."""
    try:
        return source.encode()
    except UnicodeEncodeError:
        return _AS_JSON + json.dumps(source).encode()


def decode_source(raw: bytes) -> str:
    """Read it again."""
    return str(json.loads(raw.removeprefix(_AS_JSON))) if raw.startswith(_AS_JSON) else raw.decode()


@dataclass(frozen=True)
class Column:
    """One column of the dataset."""

    name: str
    """Its name there."""
    source: str
    """`row:`, `member:EXTENSION`, `bytes:EXTENSION` (what `member:` cannot hold) or `json:KEY`."""
    arrow: pa.DataType
    """Its type."""
    kind: Type | None = None
    """For JSON keys, the type that values are fitted to."""

    @property
    def field(self) -> pa.Field:
        """The column with its source in the metadata, by which a later import finds it."""
        stored = storage_metadata(self.source.removeprefix("member:"))
        return pa.field(self.name, self.arrow, metadata={SOURCE: encode_source(self.source), **stored})


@dataclass(frozen=True)
class Clash:
    """A column that could not be named or typed as its source suggests."""

    name: str
    """The extension or key."""
    column: str
    """The column that holds it."""
    reason: str
    """Why."""


@dataclass
class _Plan:
    existing: Mapping[str, list[pa.Field]]
    taken: set[str]
    columns: list[Column] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)

    def name(self, wanted: str, suffix: str, source: str) -> str:
        """Find a free name, and report where it is not the wanted one."""
        clean = _ODD.sub("_", wanted)[:_LONGEST]
        name, count = clean, 1
        while not name or name.lower() in self.taken or (name == clean and clean != wanted):
            name = f"{clean}{suffix}{count if count > 1 else ''}"
            count += 1
        self.taken.add(name.lower())
        if name != wanted:
            self.clashes.append(Clash(source, name, self._why(wanted, clean)))
        return name

    def _why(self, wanted: str, clean: str) -> str:
        if not wanted or clean != wanted:
            return "Lance takes no such name"
        return "the name is reserved" if wanted.lower() in _RESERVED else "another column has the name"

    def add(self, name: str, source: str, arrow: pa.DataType, kind: Type | None = None) -> None:
        self.columns.append(Column(name, source, arrow, kind))


def plan_columns(observed: Observed, existing: pa.Schema | None = None) -> tuple[list[Column], list[Clash]]:
    """Name and type every column that an import fills.

    Args:
        observed: what the samples bring.
        existing: the schema of the dataset that they are added to; its columns keep their names and types.
    """
    by_source: dict[str, list[pa.Field]] = {}
    for each in existing or ():
        if source := (each.metadata or {}).get(SOURCE):
            by_source.setdefault(decode_source(source), []).append(each)
    names = existing.names if existing is not None else [each.name for each in ROW_FIELDS]
    plan = _Plan(by_source, {name.lower() for name in names} | _RESERVED)
    for each in ROW_FIELDS:
        plan.add(each.name, "row:", each.type)
    members = [m for m in observed.members if m not in TEXT_COLUMNS]
    for member in [*members, *(t for t in ("txt", "cls", "json") if t in observed.members)]:
        _plan_member(plan, member, observed.members[member])
    if observed.keys is None:
        reason = f"the JSON has more than {MAX_KEYS} different keys, too many for columns; the text is kept"
        plan.clashes.append(Clash("json", "json", reason))
    for key, kind in (observed.keys or {}).items():
        _plan_key(plan, key, kind)
    return plan.columns, plan.clashes


def _plan_member(plan: _Plan, member: str, kind: str) -> None:
    source = f"member:{member}"
    found = plan.existing.get(source, [])
    if found:
        name, arrow = found[0].name, found[0].type
    else:
        arrow = pa.string() if member == "json" else _MEMBER_TYPES[kind]
        name = plan.name(member, "_member", source)
    plan.add(name, source, arrow)
    if member in TEXT_COLUMNS and kind not in _HOLDS.get(arrow, ()):
        rest = f"bytes:{member}"
        if rest in plan.existing:
            name = plan.existing[rest][0].name
        else:
            name = plan.name(f"{member}_bytes", "_member", rest)
        plan.add(name, rest, pa.binary())
        plan.clashes.append(Clash(source, name, f"values that are no {arrow} are kept here as bytes"))


def _plan_key(plan: _Plan, key: str, kind: Type) -> None:
    source = f"json:{key}"
    found = plan.existing.get(source, [])
    for each in found:
        held = from_arrow(each.type)
        if held is not None and unite(held, kind) == held:
            plan.add(each.name, source, each.type, held)
            return
    kind = settle(kind)  # only now: a column of structs holds empty objects, of which none can be made
    if not found:
        name = plan.name(key, "_json", source)
        plan.add(name, source, to_arrow(kind), kind)
        if kind == "text":
            plan.clashes.append(Clash(source, name, _NO_ONE_TYPE))
        return
    name = plan.name(f"{key}_json", "_json", source)
    plan.clashes.append(
        Clash(source, name, f"column {found[0].name!r} is {found[0].type} and cannot hold every new value")
    )
    plan.add(name, source, pa.string(), "text")
