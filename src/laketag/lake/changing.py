"""Changes that Lance itself makes to the latest version, again for as long as others come first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from laketag.errors import CommitError
from laketag.lake.dataset import open_dataset, require_columns
from laketag.lake.explaining import first_line
from laketag.lake.location import Location
from laketag.lake.patience import OF_LANCE, is_of_the_store, patiently
from laketag.lake.probing import require_put_if_absent
from laketag.lake.transactions import ATTEMPTS, back_off, is_conflict, outrun

if TYPE_CHECKING:
    from lance import LanceDataset


def change(
    location: Location,
    make: Callable[[LanceDataset], None],
    is_made: Callable[[LanceDataset, LanceDataset], bool],
) -> None:
    """Make a change to the latest version; it is made again where another writer came first.

    Args:
        location: the dataset's.
        make: makes it, by a method of Lance's that takes no mark to find it by.
        is_made: whether it is made in a version, its second argument, that came after the one that the first
            attempt read. It is asked after an attempt that failed: its answer may only have got lost.

    Raises:
        CommitError: others came first at every attempt, or Lance or the store refuses.
    """
    require_put_if_absent(location)
    work = _Change(location, make, is_made)
    for attempt in range(ATTEMPTS):
        try:
            patiently(work.attempt, is_of_the_store)
        except OF_LANCE as error:
            if is_conflict(error):
                back_off(attempt)
            elif isinstance(error, OSError) or is_of_the_store(error):
                raise CommitError(f"{location.uri} cannot be changed: {first_line(error)}") from error
            else:
                raise
        else:
            return
    raise outrun(location)


@dataclass
class _Change:
    """A change under way, over all its attempts."""

    location: Location
    make: Callable[[LanceDataset], None]
    is_made: Callable[[LanceDataset, LanceDataset], bool]
    before: int | None = None
    """The version that the first attempt that failed began with."""

    def attempt(self) -> None:
        dataset = open_dataset(self.location)
        if self.before is not None and self._has_arrived(self.before, dataset):
            return
        version = dataset.version  # the dataset goes along with what is made of it
        try:
            self.make(dataset)
        except OF_LANCE:
            self.before = self.before or version
            raise

    def _has_arrived(self, before: int, latest: LanceDataset) -> bool:
        """Look at each later version: the latest may be another writer's, who changed it on."""
        start, later = latest.checkout_version(before), range(latest.version, before, -1)
        return any(self.is_made(start, latest.checkout_version(version)) for version in later)


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

    def is_set(_: LanceDataset, after: LanceDataset) -> bool:
        fields = {field.name: field.metadata or {} for field in after.schema}
        wanted = {n: {k.encode(): v.encode() for k, v in m.items()} for n, m in metadata.items()}
        return all(fields.get(name) == entries for name, entries in wanted.items())

    change(location, set_it, is_set)
