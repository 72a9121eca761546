"""A dataset's versions: who made each, names for them, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from laketag.errors import CommitError, DatasetError
from laketag.lake.dataset import PIN_PREFIX, create_tag, open_dataset, version_number
from laketag.lake.explaining import explaining, first_line
from laketag.lake.location import Location
from laketag.lake.probing import require_put_if_absent
from laketag.lake.transactions import (
    ATTEMPT_KEY,
    COMMIT_KEY,
    commit,
    read_transaction,
    transaction_properties,
)

if TYPE_CHECKING:
    from lance import LanceDataset

_PROPERTY = "laketag."
_OPENED_AT_ONCE = 16
RENAMING = "drop or rename"
# What Lance's own names mean to those who did not write Lance.
_OPERATIONS = {
    "Project": RENAMING,
    "BaseOperation": "index or config",
    "CreateIndex": "index",
    "UpdateConfig": "config",
}


@dataclass(frozen=True)
class VersionShown:
    """One version."""

    version: int
    timestamp: str
    """When it was made: ISO 8601, UTC."""
    operation: str
    """What Lance did, as `append` or `merge`; `unknown` where its record is gone."""
    made_by: dict[str, str]
    """What laketag recorded: job, taggers, rows, columns written; empty where another program was it."""
    rows: int
    columns_added: tuple[str, ...]
    """Since the version before in the list."""
    columns_removed: tuple[str, ...]
    columns_written: tuple[str, ...]
    """Columns that were there before and got another type, or values, where laketag wrote them."""
    names: tuple[str, ...]
    """Lance tags on it; `clean` keeps a version that has one."""


@dataclass(frozen=True)
class VersionsReport:
    """The versions that a dataset has, the oldest first."""

    uri: str
    versions: tuple[VersionShown, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag versions --json` prints it."""
        return asdict(self)


@dataclass(frozen=True)
class RestoreReport:
    """What going back left."""

    uri: str
    version: int
    """The dataset's version after it."""
    version_before: int
    """Equal to `version` where there was nothing to do."""
    restored: int
    """The version whose content that is."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag restore --json` prints it."""
        return asdict(self)


@explaining
def versions(
    uri: str | PathLike[str],
    *,
    tag: str | None = None,
    limit: int | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> VersionsReport:
    """List the versions.

    Args:
        uri: the dataset's.
        tag: first give the latest version this name, for `restore`, `diff` and `clean` to know it by.
        limit: only so many, the latest.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: the name is taken by another version, or is none.
    """
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location)
    if tag is not None:
        _name_version(location, dataset, tag)
    names: dict[int, list[str]] = {}
    for name, held in dataset.tags.list().items():
        names.setdefault(int(held["version"]), []).append(name)
    known: list[Any] = sorted(dataset.versions(), key=lambda each: each["version"])
    # One more than asked for: the first is shown by what it changed.
    first = 0 if limit is None else max(0, len(known) - limit)
    looked_at = known[max(0, first - 1) :]
    with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
        shown = list(pool.map(lambda each: _look_at(location, each, names), looked_at))
    columns = [held for held, _ in shown]
    changed = [
        replace(
            each,
            columns_added=tuple(name for name in after if name not in before),
            columns_removed=tuple(name for name in before if name not in after),
            columns_written=_written(each, before, after),
        )
        for (_, each), (before, after) in zip(shown, pairwise([{}, *columns]), strict=True)
    ]
    return VersionsReport(location.uri, tuple(changed[len(changed) - (len(known) - first) :]))


@explaining
def restore(
    uri: str | PathLike[str], version: int | str, *, storage_options: Mapping[str, str] | None = None
) -> RestoreReport:
    """Make an earlier version's content the latest version; the versions in between stay in the history.

    No version is made where that is the latest version's content already.

    Args:
        uri: the dataset's.
        version: its number, or a name that `versions` gave it.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: there is no such version.
        CommitError: no version could be made.
    """
    location = Location.of(uri, storage_options)
    latest = open_dataset(location)
    number = version_number(latest, version)
    open_dataset(location, number)
    if _content(latest, number) == _content(latest, latest.version):
        return RestoreReport(location.uri, latest.version, latest.version, number)
    require_put_if_absent(location)
    try:
        made = _restore(location, latest.version, number)
        return RestoreReport(location.uri, made, latest.version, number)
    except (OSError, ValueError) as error:
        raise CommitError(
            f"version {number} of {location.uri} cannot be restored: {first_line(error)}"
        ) from error


def _content(dataset: LanceDataset, version: int) -> int:
    """Find the version that first had a version's content: others were restored from it."""
    import lance

    while True:
        transaction = read_transaction(dataset, version)
        if transaction is None or not isinstance(transaction.operation, lance.LanceOperation.Restore):
            return version
        version = transaction.operation.version


def _restore(location: Location, latest: int, number: int) -> int:
    import lance

    # It holds no fragments: on top of whatever others commit meanwhile it means the same.
    return commit(location, latest, lance.LanceOperation.Restore(number), {}, max_retries=20)


def _name_version(location: Location, dataset: LanceDataset, name: str) -> None:
    if name.startswith(PIN_PREFIX) or name.isdecimal():
        raise DatasetError(
            f"{name!r} cannot name a version: numbers and what begins with {PIN_PREFIX} mean other things"
        )
    held = dataset.tags.list().get(name)
    if held is not None and int(held["version"]) == dataset.version:
        return
    if held is not None:
        raise DatasetError(f"version {held['version']} is named {name!r} already; take another name")
    try:
        create_tag(location, dataset, name)
    except (ValueError, OSError) as error:
        raise DatasetError(f"{name!r} cannot name a version: {first_line(error)}") from error


def _look_at(
    location: Location, version: Mapping[str, Any], names: Mapping[int, list[str]]
) -> tuple[dict[str, pa.DataType], VersionShown]:
    """Describe a version by itself; returns its columns and their types beside."""
    number = int(version["version"])
    # One opened for itself: threads cannot read transactions of a dataset that they share.
    dataset = open_dataset(location, number)
    rows = version["metadata"].get("total_rows")
    shown = VersionShown(
        version=number,
        timestamp=version["timestamp"].astimezone(UTC).isoformat(),
        operation=operation(dataset, number),
        made_by=_made_by(dataset, number),
        rows=int(rows) if rows is not None else dataset.count_rows(),
        columns_added=(),
        columns_removed=(),
        columns_written=(),
        names=tuple(sorted(names.get(number, ()))),
    )
    return {field.name: field.type for field in dataset.schema}, shown


def _written(
    version: VersionShown, before: Mapping[str, pa.DataType], after: Mapping[str, pa.DataType]
) -> tuple[str, ...]:
    told = version.made_by.get("columns", "").split(",")
    kept = (name for name in after if name in before)
    return tuple(name for name in kept if name in told or after[name] != before[name])


def operation(dataset: LanceDataset, version: int) -> str:
    """Name what Lance did to make a version."""
    transaction = read_transaction(dataset, version)
    if transaction is None:
        return "unknown"
    name = type(transaction.operation).__name__
    return _OPERATIONS.get(name, name.lower())


def _made_by(dataset: LanceDataset, version: int) -> dict[str, str]:
    properties = transaction_properties(dataset, version) or {}
    return {
        key.removeprefix(_PROPERTY): value
        for key, value in sorted(properties.items())
        if key.startswith(_PROPERTY) and key not in (COMMIT_KEY, ATTEMPT_KEY)
    }
