"""Changes that Lance itself makes to the latest version, again for as long as others come first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from laketag.errors import CommitError
from laketag.lake.committing import ATTEMPTS
from laketag.lake.dataset import open_dataset, require_columns
from laketag.lake.location import Location
from laketag.lake.patience import is_of_the_store, patiently
from laketag.lake.probing import require_put_if_absent
from laketag.lake.reading import first_line
from laketag.lake.transactions import is_conflict

if TYPE_CHECKING:
    from lance import LanceDataset


def change(location: Location, make: Callable[[LanceDataset], None]) -> None:
    """Make a change to the latest version; it is made again where another writer came first.

    Raises:
        CommitError: others came first at every attempt, or Lance or the store refuses.
    """
    require_put_if_absent(location)
    for attempt in range(ATTEMPTS):
        try:
            patiently(lambda: _make(location, make), is_of_the_store)
        except OSError as error:
            if not is_conflict(error):
                raise CommitError(f"{location.uri} cannot be changed: {first_line(error)}") from error
            time.sleep(min(2.0, 0.05 * 2**attempt))
        else:
            return
    raise CommitError(
        f"{location.uri} was changed by others during each of {ATTEMPTS} attempts; run the same command again"
    )


def _make(location: Location, make: Callable[[LanceDataset], None]) -> None:
    dataset = open_dataset(location)
    version = dataset.version
    try:
        make(dataset)
    except OSError as error:
        # Not to be made twice: the answer may have got lost on its way.
        if is_of_the_store(error) and open_dataset(location).version != version:
            raise CommitError(
                f"{location.uri}: the store did not answer, and the change may have been made; "
                "`laketag versions` shows it"
            ) from error
        raise


def set_field_metadata(location: Location, metadata: Mapping[str, Mapping[str, str]]) -> None:
    """Replace the metadata of some columns, in one version.

    Raises:
        ColumnError: one of them is not there.
        CommitError: the dataset changed under every attempt.
    """

    def set_it(dataset: LanceDataset) -> None:
        require_columns(dataset.schema, list(metadata))
        dataset.update_field_metadata(
            cast(Any, {name: dict(m) for name, m in metadata.items()}), replace=True
        )

    change(location, set_it)
