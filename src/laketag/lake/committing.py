"""Attaching column files to the latest version: one transaction, rebuilt on every conflict."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.columns import ColumnFile, delete_data_file
from laketag.lake.dataset import all_ids, fragments_of, leaf_ids, open_dataset, path_of
from laketag.lake.explaining import first_line
from laketag.lake.location import Location
from laketag.lake.probing import require_put_if_absent
from laketag.lake.session import many
from laketag.lake.transactions import (
    ATTEMPTS,
    COLUMNS_KEY,
    COMMIT_KEY,
    ROWS_KEY,
    back_off,
    commit,
    is_conflict,
    outrun,
    version_with,
)

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import DataFile, FragmentMetadata

PATIENCE = 5
"""Attempts to add columns with their labels before the columns are made first, empty."""
RESERVED_KEY = "laketag.reserved"
"""In the transaction of a version that made columns and gave them no labels yet."""
_QUICK_TRIES = 50
_DROPPED = -2  # Lance's own mark for a field that a data file holds and no one reads


@dataclass(frozen=True)
class FragmentColumns:
    """New columns for one fragment."""

    fragment: int
    """Its id."""
    file: ColumnFile
    """What was written for it: all columns of the commit."""


@dataclass(frozen=True)
class Version:
    """What a commit left."""

    number: int
    """The dataset's version after it."""
    fragments: int
    """How many fragments got a column file."""
    reserved: int | None = None
    """The version that made columns empty, where they could not be made with their labels."""


Prepare = Callable[["LanceDataset"], Sequence[FragmentColumns]]
"""Say what to attach to a dataset as it is now; called again after a conflict, it keeps what is valid."""


def commit_columns(
    location: Location, columns: pa.Schema, prepare: Prepare, properties: Mapping[str, str]
) -> Version:
    """Make columns visible in one version, new ones and ones that exist alike.

    New columns are a Merge, which every other write keeps from being committed; it is made again from the
    latest version. Where others write all the time, it never comes in time: then the columns are made
    first, empty, in a version of their own, and likewise where some of the columns exist and some do not.
    Columns that exist are an Update of the fragments concerned, which only writes to the same fragments
    keep from being committed, and which tells indexes on the columns that these fragments changed, also
    those that are being built: a Merge would not. (A DataReplacement would want the columns to
    lie alike in every fragment, which they do not once others have appended or compacted.)

    Args:
        location: the dataset's.
        columns: names, types and field metadata (which counts for new ones only).
        prepare: column files for the version that it is given.
        properties: go into the transaction.

    Raises:
        CommitError: the dataset changed under every attempt, or no longer fits.
    """
    require_put_if_absent(location)
    work = _Commit(location, columns, prepare, properties, open_dataset(location).version)
    for attempt in range(ATTEMPTS):
        try:
            made = work.attempt(is_late=attempt >= PATIENCE)
            if made is not None:
                return made
        except OSError as error:
            if not is_conflict(error):
                arrived = work.arrived(open_dataset(location))
                if arrived is not None:
                    return arrived
                raise CommitError(
                    f"{location.uri}: the commit failed ({first_line(error)}); "
                    "run the same command again: what is staged is kept"
                ) from error
        back_off(attempt)
    raise outrun(location, "run the same command again: what is staged is kept")


@dataclass
class _Commit:
    """A commit under way, over all its attempts."""

    location: Location
    columns: pa.Schema
    prepare: Prepare
    properties: Mapping[str, str]
    first_read: int
    # A name of its own for this commit: found in the history, it says that an unanswered attempt arrived.
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    units: Sequence[FragmentColumns] = ()
    reserved: int | None = None

    def attempt(self, *, is_late: bool) -> Version | None:
        """Commit on top of the latest version; None where others changed its columns meanwhile."""
        dataset = open_dataset(self.location)
        arrived = self.arrived(dataset)
        if arrived is not None:
            return arrived
        if not fragments_of(dataset):  # every row is gone
            return Version(dataset.version, 0, self.reserved)
        is_mixed = _are_mixed(dataset, self.columns)
        if is_mixed:
            self.prepare(dataset)  # it refuses where others have dropped one: that would come back empty
        if is_late or is_mixed:
            self.reserved = _reserve(self.location, dataset, self.columns, self.properties) or self.reserved
            dataset = open_dataset(self.location)
            if _are_mixed(dataset, self.columns):
                return None
        self.units = self.prepare(dataset)
        if not self.units:  # every row that there was something to say of is gone
            return Version(dataset.version, 0, self.reserved)
        properties = {**self.properties, COMMIT_KEY: self.mark}
        number = _commit_once(self.location, dataset, self.columns, self.units, properties)
        return Version(number, len(self.units), self.reserved)

    def arrived(self, dataset: LanceDataset) -> Version | None:
        found = version_with(dataset, COMMIT_KEY, self.mark, after=self.first_read)
        return None if found is None else Version(found, len(self.units), self.reserved)


def _new(dataset: LanceDataset, columns: pa.Schema) -> pa.Schema:
    return pa.schema([column for column in columns if column.name not in dataset.schema.names])


def _are_mixed(dataset: LanceDataset, columns: pa.Schema) -> bool:
    """Whether a Merge would change columns beside those that it makes.

    No index is told of it, not even one that another writer builds meanwhile: it goes on to find old values.
    """
    return 0 < len(_new(dataset, columns)) < len(columns)


def _reserve(
    location: Location, dataset: LanceDataset, columns: pa.Schema, properties: Mapping[str, str]
) -> int | None:
    """Make the columns that are not there yet, empty; returns the version that has them, if it made one.

    What takes time is done before the latest version is read, so that few writers are quick enough.
    """
    import lance

    new = _new(dataset, columns)
    if not len(new):
        return None
    schema, leftover = _extended(dataset, new)
    told = {key: said for key, said in properties.items() if key not in (ROWS_KEY, COLUMNS_KEY)}
    try:
        for _ in range(_QUICK_TRIES):
            latest = open_dataset(location)
            if not _are_alike(latest, dataset):
                return None  # the schema would undo what others changed
            fragments = [fragment.metadata for fragment in latest.get_fragments()]
            operation = lance.LanceOperation.Merge(fragments, schema, preserves_nullability=True)
            try:
                return commit(location, latest.version, operation, {**told, RESERVED_KEY: "no labels yet"})
            except OSError as error:
                if not is_conflict(error):
                    raise
                time.sleep(random.uniform(0, 0.02))
        return None
    finally:
        delete_data_file(location, leftover)


def _are_alike(one: LanceDataset, other: LanceDataset) -> bool:
    ids = [[field.id() for field in dataset.lance_schema.fields()] for dataset in (one, other)]
    return ids[0] == ids[1] and one.schema.equals(other.schema, check_metadata=True)


def _commit_once(
    location: Location,
    dataset: LanceDataset,
    columns: pa.Schema,
    units: Sequence[FragmentColumns],
    properties: Mapping[str, str],
) -> int:
    operation, leftover = _operation(dataset, columns, units)
    try:
        return commit(location, dataset.version, operation, properties)
    finally:
        if leftover is not None:
            delete_data_file(location, leftover)


def _operation(
    dataset: LanceDataset, columns: pa.Schema, units: Sequence[FragmentColumns]
) -> tuple[Any, str | None]:
    import lance

    for column in columns:
        if column.name in dataset.schema.names and dataset.schema.field(column.name).type != column.type:
            held = dataset.schema.field(column.name).type
            raise CommitError(
                f"column {column.name!r} is {held} now, its labels are {column.type}; they are staged"
            )
    new = _new(dataset, columns)
    schema, leftover = _extended(dataset, new) if len(new) else (dataset.lance_schema, None)
    modified = [one for column in columns for one in all_ids(schema.field(column.name), column.type)]
    leaves = [leaf for column in columns for leaf in leaf_ids(schema.field(column.name), column.type)]
    held = modified if dataset.data_storage_version == "2.0" else leaves
    files = {unit.fragment: unit.file for unit in units}
    fragments = [fragment.metadata for fragment in dataset.get_fragments()]  # our own: they are changed here
    for fragment in fragments:
        if fragment.id in files:
            made = _data_file(files[fragment.id], held, dataset.data_storage_version)
            _attach(fragment, made, modified)
        for file in fragment.files:
            file.__class__ = _told_at_once()
    if len(new):
        return lance.LanceOperation.Merge(fragments, schema, preserves_nullability=True), leftover
    touched = [fragment for fragment in fragments if fragment.id in files]
    return lance.LanceOperation.Update(
        updated_fragments=touched, fields_modified=modified, update_mode="rewrite_columns"
    ), None


def _extended(dataset: LanceDataset, columns: pa.Schema) -> tuple[Any, str]:
    """Let Lance itself extend the schema, so that field ids are its own: nulls for the smallest fragment.

    Returns the schema, and the name of the data file that came about and serves nothing else.
    """
    import lance

    @lance.batch_udf(output_schema=columns)
    def nulls(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pa.nulls(batch.num_rows, f.type) for f in columns], schema=columns)

    smallest = min(fragments_of(dataset), key=lambda fragment: fragment.num_rows)
    fragment: Any = dataset.get_fragment(smallest.id)
    extended, schema = fragment.merge_columns(nulls, columns=[])
    return schema, path_of(extended.files[-1])


def _attach(metadata: FragmentMetadata, made: DataFile, modified: Sequence[int]) -> None:
    for held in metadata.files:
        held.fields = [_DROPPED if field in modified else field for field in held.fields]
    # A file of nothing but dropped fields is read by no one; cleanup takes it with the old versions.
    kept = [held for held in metadata.files if any(field != _DROPPED for field in held.fields)]
    metadata.files[:] = [*kept, made]


def _data_file(file: ColumnFile, fields: list[int], storage_version: str) -> DataFile:
    import lance

    major, minor = (int(part) for part in storage_version.split("."))
    return lance.fragment.DataFile(file.name, fields, list(range(len(fields))), major, minor, file.size)


@lru_cache(maxsize=1)
def _told_at_once() -> type[DataFile]:
    """Give the class of a data file whose path costs nothing to read.

    pylance's own makes a class at every call, and a commit asks for the path of every file: they are half of
    what a commit of ten thousand fragments takes.
    """
    from lance.fragment import DataFile

    class ToldAtOnce(DataFile):
        @property
        def path(self) -> str:
            return path_of(self)

    return ToldAtOnce


def delete_unused(location: Location, made: Iterable[ColumnFile], used: Sequence[FragmentColumns]) -> None:
    """Delete the column files of attempts that lost to another writer."""
    kept = {unit.file.name for unit in used}
    unused = [file.name for file in made if file.name not in kept]
    for _ in many(location, partial(delete_data_file, location), unused):
        pass
