"""Transactions: committing one on a store whose answers may get lost, and reading what made a version."""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laketag.errors import CommitError
from laketag.lake.dataset import exists, open_dataset
from laketag.lake.location import Location
from laketag.lake.patience import OF_LANCE, is_of_the_store, patiently

if TYPE_CHECKING:
    from lance import LanceDataset

JOB_KEY = "laketag.job"
"""A property of a transaction: which job made the version."""
COMMIT_KEY = "laketag.commit"
"""Likewise: a name of its own for a commit over all its attempts."""
ATTEMPT_KEY = "laketag.attempt"
"""Likewise, for one attempt."""
ROWS_KEY, COLUMNS_KEY = "laketag.rows", "laketag.columns"
"""Likewise: how many rows got values, and in which columns."""
ATTEMPTS = 20
"""How often a change is made again where another writer came first."""
_CONFLICT = re.compile(r"commit conflict for version|incompatible transaction:", re.IGNORECASE)
_READING = threading.Lock()


def commit(
    location: Location, version: int, operation: Any, properties: Mapping[str, str], **options: Any
) -> int:
    """Commit an operation of Lance on top of the version that it was made from; returns the new version.

    Lance itself does not try again where it is not told to (`max_retries`): most operations hold the list of
    fragments, and an old list would undo what others did.
    While the store does not answer, it is tried again: first it is looked for in the history, since an answer
    that got lost is no failure.

    Raises:
        OSError: another writer came first (`is_conflict`), or the store refuses, or does not answer.
    """
    import lance

    name = uuid.uuid4().hex
    said = {**properties, ATTEMPT_KEY: name}
    transaction = lance.Transaction(version, operation, transaction_properties=said)
    may_have_arrived = False

    def attempt() -> int:
        nonlocal may_have_arrived
        if may_have_arrived and exists(location):
            found = version_with(open_dataset(location), ATTEMPT_KEY, name, after=version)
            if found is not None:
                return found
        try:
            done = lance.LanceDataset.commit(
                location.uri,
                transaction,
                storage_options=dict(location.storage_options),
                **{"max_retries": 0, **options},
            )
        except OF_LANCE:
            may_have_arrived = True
            raise
        return int(done.version)

    return patiently(attempt, is_of_the_store)


def back_off(attempt: int) -> None:
    """Wait after an attempt at which another writer came first, longer each time."""
    time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))


def outrun(location: Location, then: str = "run the same command again") -> CommitError:
    """Say that another writer came first at every attempt."""
    return CommitError(f"{location.uri} was changed by others during each of {ATTEMPTS} attempts; {then}")


def is_conflict(error: BaseException) -> bool:
    """Whether another writer came first."""
    from lance.commit import CommitConflictError

    # Lance's own methods raise a plain OSError, which says so in its text.
    return isinstance(error, CommitConflictError) or _CONFLICT.search(str(error)) is not None


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
    except TypeError:
        return _read_rewrite(dataset, version)
    except (OSError, ValueError):
        return None


def _read_rewrite(dataset: LanceDataset, version: int) -> Any:
    """Read the transaction of a compaction that moved an index along.

    pylance 14.0.2 cannot: its value of a moved index takes five arguments, and is given two. Nobody here
    asks which indexes were moved, so that any value does.
    """
    import lance

    known: Any = lance.LanceOperation
    with _READING:
        made = known.RewrittenIndex
        known.RewrittenIndex = lambda *said: said
        try:
            return dataset.read_transaction(version)
        except (OSError, ValueError, TypeError):
            return None
        finally:
            known.RewrittenIndex = made


def transaction_properties(dataset: LanceDataset, version: int) -> dict[str, str] | None:
    """Read what a version's transaction carries; None where its transaction is gone."""
    transaction = read_transaction(dataset, version)
    return None if transaction is None else dict(transaction.transaction_properties or {})
