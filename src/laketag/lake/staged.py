"""Staged files: whole or absent, seen by no reader, in `_laketag/` inside the dataset's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa

from laketag.lake.location import Location
from laketag.lake.session import delete_file, many, session_of

ROOT = "_laketag"
IMPORTED = "imported"
"""The folder of ledgers: they tell a later import what it need not read."""
IMPORT = "import-"
"""Begins the folder of what one import has staged."""
LABEL_FILES, CHECKED, LEASE = "labels", "checked", "lease"
"""Folders inside that of a job: labels, notes on which labels are known to be right, claims on the work."""


@contextmanager
def without_empty_folders(location: Location) -> Iterator[None]:
    """Drop the folders that the body made for a dataset, above and below it, where no file is in them."""
    place = Path(location.uri)
    made = [each for each in (place, *place.parents) if location.is_local and not each.exists()]
    try:
        yield
    finally:
        below = [folder for folder, _, _ in os.walk(location.uri, topdown=False)] if made else []
        for folder in (*below, *map(str, made)):
            with suppress(OSError):  # something is in it
                os.rmdir(folder)


def is_leftover(name: str) -> bool:
    """Whether a file is what a killed write left."""
    return name.rsplit("/", 1)[-1].startswith(".") or ".tmp" in name


@dataclass(frozen=True)
class StagedFiles:
    """One folder of staged files. It lies outside `data/`, where Lance's cleanup does not go."""

    location: Location
    """The dataset's."""
    folder: str
    """Its name below `_laketag/`; plain ASCII."""

    def inner(self, name: str) -> StagedFiles:
        """Give a folder inside this one."""
        return StagedFiles(self.location, f"{self.folder}/{name}")

    def names(self) -> list[str]:
        """Every staged file, sorted; leftovers of killed writes are left out."""
        return [name for name in self.all_names() if not is_leftover(name)]

    def all_names(self) -> list[str]:
        """Every file, with leftovers of killed writes."""
        base = self._path("")
        return sorted(name.removeprefix(base) for name in session_of(self.location).list(base.rstrip("/")))

    def write(self, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> int:
        """Stage a table under a name that no other write uses; returns the bytes written."""
        writer = session_of(self.location).open_writer(self._path(name), schema=table.schema)
        for key, value in (metadata or {}).items():
            writer.add_schema_metadata(key, value)
        for batch in table.to_batches():
            writer.write_batch(batch)
        writer.close()
        return writer.size_bytes or 0

    def mark(self, name: str) -> None:
        """Stage a file whose name says all."""
        self.write(name, pa.table({"nothing": pa.array([], pa.int8())}))

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a staged file; `schema.metadata` of the table holds what `write` was given."""
        return session_of(self.location).open_reader(self._path(name), columns).read_all().to_table()

    def metadata(self, name: str) -> dict[str, str]:
        """What `write` was given beside the table, from the file's footer alone."""
        schema = session_of(self.location).open_reader(self._path(name)).metadata().schema
        return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}

    def contains(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(session_of(self.location).contains(self._path(name)))

    def delete(self, names: Iterable[str]) -> None:
        """Delete staged files; one that is gone already is no error."""
        paths = [self._path(name) for name in names]
        for _ in many(self.location, partial(delete_file, self.location), paths):
            pass

    def drop_folders(self, names: Iterable[str]) -> None:
        """Drop the folders in this one that held some files, where they are empty now; a store has none."""
        if not self.location.is_local:
            return
        held = {folder for name in names for folder in PurePosixPath(name).parents} - {PurePosixPath()}
        for folder in sorted(held, key=lambda each: len(each.parts), reverse=True):
            with suppress(OSError):  # something is in it, or it is gone
                os.rmdir(os.path.join(self.location.uri, self._path(str(folder))))

    def _path(self, name: str) -> str:
        return f"{ROOT}/{self.folder}/{name}" if self.folder else f"{ROOT}/{name}"
