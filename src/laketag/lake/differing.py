"""`diff`: what became of rows, columns and labels between two versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import DatasetError
from laketag.lake.comparing import (
    ADDRESS,
    ROW_ID,
    changed_fragments,
    column_state,
    deletions,
    files_of,
    ids_of,
    is_other,
    matched,
    rows_of,
    values_of,
)
from laketag.lake.dataset import field_id, is_image_like, open_dataset, require_columns
from laketag.lake.explaining import explaining
from laketag.lake.history import RENAMING, operation
from laketag.lake.labels import is_digest, is_label
from laketag.lake.location import Location
from laketag.times import in_pythons_times

if TYPE_CHECKING:
    from lance import LanceDataset

# Of more values than this no one reads a from-to table.
_MOST_VALUES = 50
_SAMPLE = 1000
_SOME = "(a value)"


@dataclass(frozen=True)
class ColumnNamed:
    """A column that came or went."""

    name: str
    type: str


@dataclass(frozen=True)
class ColumnChange:
    """A column that has another name, or another type."""

    before: str
    after: str
    name: str
    """Its name afterwards."""


@dataclass(frozen=True)
class LabelChange:
    """Rows that went from one label to another."""

    before: Any
    """None where there was no label; `(a value)` for scores, and where labels of many values moved."""
    after: Any
    rows: int


@dataclass(frozen=True)
class LabelsMoved:
    """What became of the labels of one column, in the rows that both versions have."""

    column: str
    """Its name afterwards."""
    compared: int
    """Rows compared."""
    moved: int
    """Rows with another label."""
    changes: tuple[LabelChange, ...]
    """From what to what, the most frequent first."""


@dataclass(frozen=True)
class DiffReport:
    """What is different. Without stable row ids an updated row counts as removed and as added."""

    uri: str
    version_before: int
    version_after: int
    rows_before: int
    rows_after: int
    rows_added: int
    rows_removed: int
    columns_added: tuple[ColumnNamed, ...]
    columns_removed: tuple[ColumnNamed, ...]
    columns_renamed: tuple[ColumnChange, ...]
    columns_retyped: tuple[ColumnChange, ...]
    labels: tuple[LabelsMoved, ...]
    has_row_ids: bool
    """Whether rows could be told by stable row ids; else by their place."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag diff --json` prints it."""
        return asdict(self)


@explaining
def diff(
    uri: str | PathLike[str],
    before: int | str,
    after: int | str,
    *,
    storage_options: Mapping[str, str] | None = None,
) -> DiffReport:
    """Compare two versions: rows, columns, and the labels of rows that both have. No image is read.

    Label columns are those of taggers and of `add-column`; others of few values are shown where they moved.

    Args:
        uri: the dataset's.
        before: a version's number, or its name.
        after: another's.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: there is no such version.
    """
    location = Location.of(uri, storage_options)
    pair = _Pair(location, *(open_dataset(location, each) for each in (before, after)))
    added, removed = pair.rows_changed()
    old, new = pair.old.schema, pair.new.schema
    renamed = pair.renamed()
    return DiffReport(
        uri=location.uri,
        version_before=pair.old.version,
        version_after=pair.new.version,
        rows_before=pair.old.count_rows(),
        rows_after=pair.new.count_rows(),
        rows_added=added,
        rows_removed=removed,
        columns_added=_named(new, set(old.names) | set(renamed.values())),
        columns_removed=_named(old, set(new.names) | set(renamed)),
        columns_renamed=tuple(ColumnChange(a, b, b) for a, b in renamed.items()),
        columns_retyped=tuple(
            ColumnChange(str(old.field(a).type), str(new.field(b).type), b)
            for a, b in pair.common(renamed)
            if old.field(a).type != new.field(b).type
        ),
        labels=tuple(pair.labels_moved(renamed)),
        has_row_ids=pair.has_row_ids,
    )


def rows_moved(old: LanceDataset, new: LanceDataset, column: str) -> npt.NDArray[np.uint64]:
    """Find the rows that both versions have, with another value of a column that both have: their row ids.

    Raises:
        ColumnError: one of the versions has no such column.
    """
    for dataset in (old, new):
        require_columns(dataset.schema, [column])
    in_old, in_new = changed_fragments(old, new, partial(column_state, names=(column,)))
    before, after = values_of(old, in_old, column, ROW_ID), values_of(new, in_new, column, ROW_ID)
    both = matched(before, after)
    moved: npt.NDArray[np.uint64] = both.filter(is_other(both))["key"].to_numpy()
    return moved


@dataclass(frozen=True)
class _Pair:
    """Two versions of one dataset. Lance never gives a fragment's id or a row id out twice."""

    location: Location
    old: LanceDataset
    new: LanceDataset

    @property
    def has_row_ids(self) -> bool:
        return bool(self.old.has_stable_row_ids and self.new.has_stable_row_ids)

    def common(self, renamed: Mapping[str, str]) -> list[tuple[str, str]]:
        """List the columns that both have, by their names before and after."""
        kept = [(name, name) for name in self.old.schema.names if name in self.new.schema.names]
        return [*kept, *renamed.items()]

    def renamed(self) -> dict[str, str]:
        """Find columns that have another name and are the same; a field's id alone may be given out again."""
        gone = [name for name in self.old.schema.names if name not in self.new.schema.names]
        come = {
            field_id(self.new.lance_schema, name): name
            for name in self.new.schema.names
            if name not in self.old.schema.names
        }
        found = {}
        for name in gone:
            number = field_id(self.old.lance_schema, name)
            if number in come and (
                files_of(self.old, number) & files_of(self.new, number) or self._is_traced(number, name)
            ):
                found[name] = come[number]
        return found

    def _is_traced(self, number: int, name: str) -> bool:
        """Whether a field was there in all versions between, and got other names by renaming only."""
        for version in range(self.old.version + 1, self.new.version + 1):
            try:
                dataset = open_dataset(self.location, version)
            except DatasetError:
                return False
            names = [n for n in dataset.schema.names if field_id(dataset.lance_schema, n) == number]
            if not names or (names[0] != name and operation(dataset, version) != RENAMING):
                return False
            name = names[0]
        return self.old.version < self.new.version

    def rows_changed(self) -> tuple[int, int]:
        """Count the rows added and removed."""
        old, new = changed_fragments(self.old, self.new, deletions)
        if self.has_row_ids:
            before, after = ids_of(self.old, old, ROW_ID), ids_of(self.new, new, ROW_ID)
            both = len(np.intersect1d(before, after, assume_unique=True))
            return len(after) - both, len(before) - both
        shared = sorted(set(old) & set(new))
        before, after = ids_of(self.old, shared, ADDRESS), ids_of(self.new, shared, ADDRESS)
        both = len(np.intersect1d(before, after, assume_unique=True))
        # Rows whose fragment is gone were compacted or deleted; which, only their number says.
        went = rows_of(self.old, old) - len(before)
        came = rows_of(self.new, new) - len(after)
        moved = min(went, came)
        return len(after) - both + came - moved, len(before) - both + went - moved

    def labels_moved(self, renamed: Mapping[str, str]) -> Iterator[LabelsMoved]:
        """Compare the label columns."""
        for name, new_name in self.common(renamed):
            field = self.new.schema.field(new_name)
            is_same_type = self.old.schema.field(name).type == field.type
            if not is_same_type or is_image_like(field) or not _can_be_label(field):
                continue
            state = partial(column_state, names=(new_name, name))
            old, new = changed_fragments(self.old, self.new, state)
            if not is_label(field) and (not new or not _has_few_values(self.new, new, new_name)):
                continue
            moved = self._moved(name, new_name, old, new)
            if is_label(field) or moved.moved:
                yield moved

    def _moved(self, name: str, new_name: str, old: list[int], new: list[int]) -> LabelsMoved:
        key = ROW_ID if self.has_row_ids else ADDRESS
        before, after = values_of(self.old, old, name, key), values_of(self.new, new, new_name, key)
        same = self.new.count_rows() - len(after)
        both = matched(before, after)
        table = in_pythons_times(both.filter(is_other(both)).drop_columns("key"))
        if not _is_tabled(table):
            table = pa.table({side: _is_there(table[side]) for side in table.column_names})
        groups = table.group_by(["before", "after"]).aggregate([([], "count_all")]).to_pylist()
        changes = [LabelChange(each["before"], each["after"], each["count_all"]) for each in groups]
        changes.sort(key=lambda change: (-change.rows, str(change.before), str(change.after)))
        return LabelsMoved(new_name, same + len(both), len(table), tuple(changes))


def _is_there(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.is_valid(values), pa.scalar(_SOME), pa.scalar(None, pa.string()))


def _is_tabled(moved: pa.Table) -> bool:
    kind = moved["after"].type
    return not (pa.types.is_floating(kind) or pa.types.is_nested(kind)) and all(
        pc.count_distinct(moved[side]).as_py() <= _MOST_VALUES for side in ("before", "after")
    )


def _can_be_label(field: pa.Field) -> bool:
    if is_label(field):
        return not is_digest(field)
    return bool(pa.types.is_string(field.type) or pa.types.is_boolean(field.type))


def _has_few_values(dataset: LanceDataset, fragments: list[int], name: str) -> bool:
    chosen: list[Any] = [dataset.get_fragment(fragment) for fragment in fragments]
    sample = dataset.scanner(columns=[name], fragments=chosen, limit=_SAMPLE).to_table()[name]
    return int(pc.count_distinct(sample).as_py()) <= _MOST_VALUES


def _named(schema: pa.Schema, others: set[str]) -> tuple[ColumnNamed, ...]:
    return tuple(ColumnNamed(field.name, str(field.type)) for field in schema if field.name not in others)
