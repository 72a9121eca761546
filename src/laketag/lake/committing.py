"""Attaching column files to the latest version: one transaction, rebuilt on every conflict."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.columns import ColumnFile, delete_data_file
from laketag.lake.dataset import leaf_ids, open_dataset
from laketag.lake.location import Location

if TYPE_CHECKING:
    from lance import LanceDataset
    from lance.fragment import FragmentMetadata

ATTEMPTS = 20
COMMIT_KEY = "laketag.commit"
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


Prepare = Callable[["LanceDataset"], Sequence[FragmentColumns]]
"""Say what to attach to a dataset as it is now; called again after a conflict, it keeps what is valid."""


def commit_columns(
    location: Location, columns: pa.Schema, prepare: Prepare, properties: Mapping[str, str]
) -> Version:
    """Make columns visible in one version, new ones and ones that exist alike.

    Always a Merge: a DataReplacement wants the columns to lie alike in every fragment, which they do
    not once others have appended, compacted or added columns. In a Merge a column that is there
    already leaves its old file (the field is marked as dropped there) and is found in the new one.

    Args:
        location: the dataset's.
        columns: names, types and field metadata (which counts for new ones only).
        prepare: column files for the version that it is given.
        properties: go into the transaction.

    Raises:
        CommitError: the dataset changed under every attempt, or no longer fits.
    """
    from lance.commit import CommitConflictError

    # A name of its own for this commit: found in the history, it says that an unanswered attempt arrived.
    mark = uuid.uuid4().hex
    first_read = open_dataset(location).version
    units: list[FragmentColumns] = []
    for attempt in range(ATTEMPTS):
        dataset = open_dataset(location)
        arrived = version_with(dataset, COMMIT_KEY, mark, after=first_read)
        if arrived is not None:
            return Version(arrived, len(units))
        units = list(prepare(dataset))
        if not units:  # every row that there was something to say of is gone
            return Version(dataset.version, 0)
        try:
            number = _commit_once(location, dataset, columns, units, {**properties, COMMIT_KEY: mark})
            return Version(number, len(units))
        except CommitConflictError:
            time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
        except OSError as error:
            arrived = version_with(open_dataset(location), COMMIT_KEY, mark, after=first_read)
            if arrived is not None:
                return Version(arrived, len(units))
            raise CommitError(
                f"{location.uri}: the commit failed ({str(error).splitlines()[0][:200]}); "
                "the work is staged, run the same command again"
            ) from error
    raise CommitError(
        f"{location.uri} was changed by others during each of {ATTEMPTS} attempts to commit; "
        "the labels are staged, run the same command again"
    )


def _commit_once(
    location: Location,
    dataset: LanceDataset,
    columns: pa.Schema,
    units: Sequence[FragmentColumns],
    properties: dict[str, str],
) -> int:
    import lance

    operation, leftover = _operation(dataset, columns, units)
    try:
        committed = lance.LanceDataset.commit(
            location.uri,
            lance.Transaction(dataset.version, operation, transaction_properties=properties),
            storage_options=dict(location.storage_options),
            # Lance's own retries would commit the old fragment list again, and undo what others did.
            max_retries=0,
        )
    finally:
        if leftover is not None:
            delete_data_file(location, leftover)
    return int(committed.version)


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
    new = pa.schema([column for column in columns if column.name not in dataset.schema.names])
    schema, leftover = _extended(dataset, new) if len(new) else (dataset.lance_schema, None)
    fields = [leaf for column in columns for leaf in leaf_ids(schema.field(column.name), column.type)]
    files = {unit.fragment: unit.file for unit in units}
    fragments = [fragment.metadata for fragment in dataset.get_fragments()]
    for fragment in fragments:
        if fragment.id in files:
            _attach(fragment, files[fragment.id], fields, dataset.data_storage_version)
    if len(new):
        return lance.LanceOperation.Merge(fragments, schema, preserves_nullability=True), leftover
    touched = [fragment for fragment in fragments if fragment.id in files]
    return lance.LanceOperation.Update(
        updated_fragments=touched, fields_modified=fields, update_mode="rewrite_columns"
    ), None


def _extended(dataset: LanceDataset, columns: pa.Schema) -> tuple[Any, str]:
    """Let Lance itself extend the schema, so that field ids are its own: nulls for the smallest fragment.

    Returns the schema, and the name of the data file that came about and serves nothing else.
    """
    import lance

    @lance.batch_udf(output_schema=columns)
    def nulls(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pa.nulls(batch.num_rows, f.type) for f in columns], schema=columns)

    smallest = min(dataset.get_fragments(), key=lambda fragment: fragment.metadata.num_rows)
    extended, schema = smallest.merge_columns(nulls, columns=[])
    return schema, str(extended.files[-1].path)


def _attach(metadata: FragmentMetadata, file: ColumnFile, fields: list[int], storage_version: str) -> None:
    import lance

    for held in metadata.files:
        held.fields = [_DROPPED if field in fields else field for field in held.fields]
    # A file of nothing but dropped fields is read by no one; cleanup takes it with the old versions.
    kept = [held for held in metadata.files if any(field != _DROPPED for field in held.fields)]
    major, minor = (int(part) for part in storage_version.split("."))
    indices = list(range(len(fields)))
    metadata.files[:] = [*kept, lance.fragment.DataFile(file.name, fields, indices, major, minor, file.size)]


def delete_unused(location: Location, made: Iterable[ColumnFile], used: Sequence[FragmentColumns]) -> None:
    """Delete the column files of attempts that lost to another writer."""
    kept = {unit.file.name for unit in used}
    for file in made:
        if file.name not in kept:
            delete_data_file(location, file.name)


def version_with(dataset: LanceDataset, key: str, value: str, *, after: int) -> int | None:
    """Find the latest version after another one whose transaction carries a property."""
    for version in range(dataset.version, after, -1):
        if (transaction_properties(dataset, version) or {}).get(key) == value:
            return version
    return None


def read_transaction(dataset: LanceDataset, version: int) -> Any:
    """Read what made a version; None where its transaction is gone or cannot be read."""
    try:
        return dataset.read_transaction(version)
    # TypeError: pylance 14.0.2 cannot make its own value of a compaction that remapped an index.
    except (OSError, ValueError, TypeError):
        return None


def transaction_properties(dataset: LanceDataset, version: int) -> dict[str, str] | None:
    """Read what a version's transaction carries; None where its transaction is gone."""
    transaction = read_transaction(dataset, version)
    return None if transaction is None else dict(transaction.transaction_properties or {})
