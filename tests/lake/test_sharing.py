from __future__ import annotations

from pathlib import Path

import pytest

from laketag.errors import DatasetError
from laketag.lake.location import Location
from laketag.lake.sharing import OnSharedDisk, on_shared_disk


def test_a_worker_that_has_the_drivers_folder_works_and_no_mark_is_left(tmp_path: Path) -> None:
    with on_shared_disk(Location.of(str(tmp_path)), "work", str) as guarded:
        assert guarded(7) == "7"

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_machine_with_another_folder_at_the_same_path_is_refused(tmp_path: Path) -> None:
    with on_shared_disk(Location.of(str(tmp_path)), "work", str) as guarded:
        assert isinstance(guarded, OnSharedDisk)
        Path(guarded.mark).unlink()  # what the other machine's folder looks like

        with pytest.raises(DatasetError, match="does not share: put the dataset on an object store"):
            guarded(7)


def test_an_object_store_needs_no_guard() -> None:
    with on_shared_disk(Location.of("s3://lake/photos.lance"), "work", str) as guarded:
        assert guarded is str
