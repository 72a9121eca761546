"""New rows become a version: a new dataset, or fragments added to one, each in one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.dataset import exists, leaf_ids, open_dataset
from laketag.lake.explaining import first_line
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.lake.patience import is_of_the_store, patiently
from laketag.lake.probing import require_put_if_absent
from laketag.lake.session import session_of
from laketag.lake.transactions import (
    ATTEMPTS,
    COMMIT_KEY,
    back_off,
    commit,
    is_conflict,
    outrun,
    version_with,
)
from laketag.lake.writing import STORAGE_VERSION

if TYPE_CHECKING:
    from lance import LanceDataset

IMPORTING = "importing"
"""The folder of imports' leases: different ones may be at work at once."""
_QUEUES = 600.0
"""Seconds that an import waits until others have committed."""


@dataclass(frozen=True)
class DataFileOf:
    """A data file of a new fragment, and the columns that it holds."""

    name: str
    """Its name below `data/`."""
    columns: tuple[str, ...]
    """The dataset's columns, in the file's order."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class NewFragment:
    """Rows that no version has yet; columns that no file holds are null."""

    rows: int
    """How many rows, the same in each file."""
    files: tuple[DataFileOf, ...]
    """Its data files, each with other columns."""


def create_dataset(
    location: Location, schema: pa.Schema, fragments: Sequence[NewFragment], properties: Mapping[str, str]
) -> int:
    """Make a dataset of the fragments; returns its version.

    Raises:
        CommitError: somebody else made a dataset there meanwhile, or the store fails.
    """
    import lance
    from lance.schema import LanceSchema

    require_put_if_absent(location)
    lance_schema = LanceSchema.from_pyarrow(schema)
    mark = uuid.uuid4().hex
    operation = lance.LanceOperation.Overwrite(
        lance_schema, _metadata(lance_schema, schema, fragments, STORAGE_VERSION)
    )
    try:
        return commit(location, 0, operation, {**properties, COMMIT_KEY: mark}, enable_stable_row_ids=True)
    except OSError as error:
        if exists(location):
            # An answer that got lost looks like somebody else's dataset, but for the mark.
            if version_with(open_dataset(location), COMMIT_KEY, mark, after=0) is not None:
                return 1
            raise CommitError(
                f"another program made a dataset at {location.uri} meanwhile; run the same command again"
            ) from error
        raise CommitError(f"no dataset could be made at {location.uri}: {first_line(error)}") from error


def append_fragments(
    location: Location,
    schema: pa.Schema,
    fragments: Sequence[NewFragment],
    properties: Mapping[str, str],
    check: Callable[[LanceDataset], None],
    waiting: Callable[[], None],
) -> int:
    """Add the fragments to a dataset, after the columns that it lacks; returns the version.

    Args:
        location: the dataset's.
        schema: the fragments' columns; those that the dataset has are of its types.
        fragments: what to add.
        properties: go into the transaction.
        check: called with the dataset as it is right before the commit; raises to give up. No other import
            adds rows in between: to Lance two appends are no conflict, whatever they hold.
        waiting: called again and again while others are at their commits.

    Raises:
        CommitError: the dataset changed under every attempt, or no longer fits.
        JobRefused: others were at their commits all the while.
    """
    require_put_if_absent(location)
    mark = uuid.uuid4().hex
    first = open_dataset(location).version

    def append() -> int:
        dataset = open_dataset(location)
        # Appending is not idempotent: an attempt whose answer got lost must not be made again.
        landed = version_with(dataset, COMMIT_KEY, mark, after=first)
        if landed is not None:
            return landed
        check(dataset)
        return _append(location, dataset, schema, fragments, {**properties, COMMIT_KEY: mark})

    name = "the commit of another import"
    with leased(location, IMPORTING, name, "commit", waits=_QUEUES, waiting=waiting):
        for attempt in range(ATTEMPTS):
            try:
                return patiently(append, is_of_the_store)
            except OSError as error:
                if not is_conflict(error):
                    raise CommitError(f"{location.uri}: the commit failed ({first_line(error)})") from error
                back_off(attempt)
    raise outrun(location)


def _append(
    location: Location,
    dataset: LanceDataset,
    schema: pa.Schema,
    fragments: Sequence[NewFragment],
    properties: Mapping[str, str],
) -> int:
    import lance

    dataset = _with_columns(dataset, schema)
    made = _metadata(dataset.lance_schema, schema, fragments, dataset.data_storage_version)
    appending = lance.LanceOperation.Append(made)
    # An Append holds new fragments only: on top of whatever others commit meanwhile it is right.
    return commit(location, dataset.version, appending, properties, max_retries=20)


def verify_fragments(location: Location, fragments: Sequence[NewFragment]) -> None:
    """Open every file again: Lance would commit a short one, and fail to read it ever after.

    Raises:
        CommitError: a file is gone, or not as long as its fragment.
    """
    for fragment in fragments:
        for file in fragment.files:
            try:
                rows = session_of(location).open_reader(f"data/{file.name}").num_rows()
            except OSError as error:
                raise CommitError(f"data file {file.name} cannot be read: {first_line(error)}") from error
            if rows != fragment.rows:
                raise CommitError(
                    f"data file {file.name} has {rows} rows where its fragment has {fragment.rows}"
                )


def _with_columns(dataset: LanceDataset, schema: pa.Schema) -> LanceDataset:
    """Add the columns that the dataset lacks, all null: a change of metadata only."""
    wrong = [
        f.name
        for f in schema
        if f.name in dataset.schema.names and dataset.schema.field(f.name).type != f.type
    ]
    if wrong:
        raise CommitError(
            f"column {wrong[0]!r} has another type now than when the import began; run the same command again"
        )
    missing = [field for field in schema if field.name not in dataset.schema.names]
    if missing:
        dataset.add_columns(pa.schema(missing))
    return dataset


def _metadata(
    lance_schema: Any, schema: pa.Schema, fragments: Sequence[NewFragment], storage_version: str
) -> list[Any]:
    from lance.fragment import DataFile, FragmentMetadata

    major, minor = (int(part) for part in storage_version.split("."))
    ids = {field.name: leaf_ids(lance_schema.field(field.name), field.type) for field in schema}
    made = []
    for fragment in fragments:
        files = []
        for file in fragment.files:
            fields = [leaf for name in file.columns for leaf in ids[name]]
            files.append(DataFile(file.name, fields, list(range(len(fields))), major, minor, file.size))
        made.append(FragmentMetadata(0, files, fragment.rows))
    return made
