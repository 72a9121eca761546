"""A folder of finished files: each is there whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from laketag.lake.folder import Folder
from laketag.lake.location import Location


def test_a_file_has_its_name_only_once_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, list[str]]] = []
    fsync = os.fsync

    def watched(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_size, Folder(Location.of(str(tmp_path))).names()))

    monkeypatch.setattr(os, "fsync", watched)

    Folder(Location.of(str(tmp_path))).write("a.tar", b"whole")

    [(size, names)] = synced
    assert (size, "a.tar" in names) == (5, False)
    assert (tmp_path / "a.tar").read_bytes() == b"whole"
