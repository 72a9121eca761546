"""The user's own files, sent along to workers that share no disk with the driver."""

from __future__ import annotations

import atexit
import fcntl
import importlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from laketag.errors import EngineError

_PREFIX = "laketag-files-"
_YOUNG = 60.0
"""Seconds in which a folder may not be locked yet."""


@dataclass(frozen=True)
class Parcel:
    """Modules and packages as one zip archive; nothing where it is empty."""

    archive: bytes = b""

    @classmethod
    def of(cls, paths: Sequence[str]) -> Parcel:
        """Pack modules (`.py`), packages (folders) and archives (`.zip`, `.whl`).

        Raises:
            EngineError: a path that is none of these, or cannot be read.
        """
        if not paths:
            return cls()
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in map(Path, paths):
                try:
                    for name, body in _members(path):
                        archive.writestr(name, body)
                except (OSError, zipfile.BadZipFile) as error:
                    raise EngineError(f"py_files: {path} cannot be read ({error})") from error
        return cls(buffer.getvalue())

    def unpack(self) -> None:
        """Make the modules importable in this process, in place of those of an earlier run."""
        if not self.archive:
            return
        while _folders:
            _forget(*_folders.pop())
        _sweep()
        # A folder of this process alone: nobody else can have put anything there.
        folder = tempfile.mkdtemp(prefix=_PREFIX)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            archive.extractall(folder)
        sys.path.insert(0, folder)
        _folders.append((folder, _locked(folder)))
        importlib.invalidate_caches()


_folders: list[tuple[str, int | None]] = []
"""Where the last one lies, and its lock: a worker that Spark uses again gets another one with each run."""


def _forget(folder: str, lock: int | None) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(folder):
            del sys.modules[name]
    with suppress(ValueError):
        sys.path.remove(folder)
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _sweep() -> None:
    """Delete the folders of processes that were killed, as Ray and Spark end theirs."""
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it has just gone
            is_young = time.time() - left.stat().st_mtime < _YOUNG
            if not is_young and (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def _locked(folder: str | Path) -> int | None:
    """Lock a folder until the handle is closed, or this process ends; None where that cannot be."""
    with suppress(OSError):  # another user's, or locked, or on a disk without locks
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle
    return None


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield f"{path.resolve().name}/{file.relative_to(path).as_posix()}", file.read_bytes()
    elif path.suffix == ".py":
        yield path.name, path.read_bytes()
    elif path.suffix in (".zip", ".whl"):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if not name.endswith("/"):
                    yield name, archive.read(name)
    else:
        raise EngineError(f"py_files: {path} is no module (.py), package folder, .zip or .whl")
