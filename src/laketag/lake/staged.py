"""Staged files: whole or absent, seen by no reader, in `_laketag/` inside the dataset's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.lake.location import Location

if TYPE_CHECKING:
    from lance.file import LanceFileSession

ROOT = "_laketag"


@dataclass(frozen=True)
class StagedFiles:
    """One folder of staged files. It lies outside `data/`, where Lance's cleanup does not go."""

    location: Location
    """The dataset's."""
    folder: str
    """Its name below `_laketag/`; plain ASCII."""

    def names(self) -> list[str]:
        """Every staged file, sorted; leftovers of killed writes are left out."""
        names = self._session().list()
        return sorted(
            name for name in names if not name.rsplit("/", 1)[-1].startswith(".") and ".tmp" not in name
        )

    def all_names(self) -> list[str]:
        """Every file, with leftovers of killed writes."""
        return sorted(self._session().list())

    def write(self, name: str, table: pa.Table, metadata: Mapping[str, str] | None = None) -> int:
        """Stage a table under a name that no other write uses; returns the bytes written."""
        writer = self._session().open_writer(name, schema=table.schema)
        for key, value in (metadata or {}).items():
            writer.add_schema_metadata(key, value)
        for batch in table.to_batches():
            writer.write_batch(batch)
        writer.close()
        return writer.size_bytes or 0

    def read(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Read a staged file; `schema.metadata` of the table holds what `write` was given."""
        return self._session().open_reader(name, columns).read_all().to_table()

    def metadata(self, name: str) -> dict[str, str]:
        """What `write` was given beside the table, from the file's footer alone."""
        schema = self._session().open_reader(name).metadata().schema
        return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}

    def contains(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._session().contains(name))

    def delete(self, names: Iterable[str]) -> None:
        """Delete staged files; one that is gone already is no error."""
        session = self._session()
        for name in names:
            if session.contains(name):
                session.delete_file(name)

    def _session(self) -> LanceFileSession:
        from lance.file import LanceFileSession

        base = f"{self.location.uri}/{ROOT}/{self.folder}".rstrip("/")
        return LanceFileSession(base, storage_options=dict(self.location.storage_options))
