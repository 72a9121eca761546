"""A folder of finished files, on this machine or on a store: each is there whole, or not at all."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from laketag.lake.location import Location
from laketag.lake.patience import explained
from laketag.lake.session import delete_file, many, session_of

_PART = ".part"


@dataclass(frozen=True)
class Folder:
    """Where files are put."""

    location: Location
    """The folder's."""

    def inner(self, name: str) -> Folder:
        """Give a folder inside this one."""
        return Folder(Location(f"{self.location.uri}/{name}", self.location.storage_options))

    def names(self) -> list[str]:
        """List the files that lie directly in it, sorted; none where there is no such folder."""
        if self.location.is_local:
            path = self._path
            return sorted(each.name for each in path.iterdir() if each.is_file()) if path.is_dir() else []
        with self._explained():
            return sorted(name for name in session_of(self.location).list() if "/" not in name)

    @contextmanager
    def placed(self, name: str) -> Iterator[Path]:
        """Give a path to write a file at; afterwards it is in its place, or nowhere where that failed."""
        if not self.location.is_local:
            with tempfile.TemporaryDirectory(prefix="laketag-") as scratch:
                file = Path(scratch, "file")
                yield file
                with self._explained():
                    session_of(self.location).upload_file(str(file), name)
            return
        self._path.mkdir(parents=True, exist_ok=True)
        part = self._path / f".{name}.{uuid.uuid4().hex}{_PART}"
        try:
            yield part
            _flush(part)
            self._rename(part, name)
        finally:
            part.unlink(missing_ok=True)

    def write(self, name: str, data: bytes) -> None:
        """Put a small file."""
        with self.placed(name) as file:
            file.write_bytes(data)

    def read(self, name: str) -> bytes | None:
        """Read a small file; None where it is not there."""
        if self.location.is_local:
            with suppress(FileNotFoundError):
                return (self._path / name).read_bytes()
            return None
        with self._explained():
            return self._fetched(name)

    def _fetched(self, name: str) -> bytes | None:
        session = session_of(self.location)
        if not session.contains(name):
            return None
        with tempfile.TemporaryDirectory(prefix="laketag-") as scratch:
            file = Path(scratch, "file")
            session.download_file(name, str(file))
            return file.read_bytes()

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; one that is gone is no error."""
        if self.location.is_local:
            for name in names:
                (self._path / name).unlink(missing_ok=True)
            return
        with self._explained():
            for _ in many(self.location, partial(delete_file, self.location), list(names)):
                pass

    def sweep(self, names: Iterable[str]) -> None:
        """Delete what killed writers left of files that are there now; a store keeps nothing of them."""
        if not self.location.is_local:
            return
        finished = set(names)
        for each in self.names():
            if each.startswith(".") and each.endswith(_PART) and each[1:].rsplit(".", 2)[0] in finished:
                (self._path / each).unlink(missing_ok=True)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.location.uri, stages=False)

    @property
    def _path(self) -> Path:
        return Path(self.location.uri)

    def _rename(self, part: Path, name: str) -> None:
        try:
            part.replace(self._path / name)
        except FileNotFoundError:
            # Another run of the same work finished this file, and swept the folder.
            if not (self._path / name).exists():
                raise


def _flush(file: Path) -> None:
    # A name must not reach the disk before the bytes: a shard that is there counts as whole.
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())
