from __future__ import annotations

import os
from pathlib import Path

import pytest

from laketag.errors import DatasetError, WrongUsage
from laketag.lake.location import Location


def test_an_empty_address_is_refused_and_does_not_mean_the_current_folder() -> None:
    with pytest.raises(WrongUsage, match="address is empty; give a folder"):
        Location.of("")


def test_an_address_of_another_encoding_is_refused() -> None:
    with pytest.raises(WrongUsage, match="not UTF-8; rename"):
        Location.of(os.fsdecode(b"/data/\xd5\xd5\xc6\xac.lance"))


def test_a_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert Location.of("a.lance/") == Location(str(tmp_path / "a.lance"))


def test_an_address_of_a_folder_is_the_folder() -> None:
    assert Location.of("file:///lake/my%20photos.lance/") == Location("/lake/my photos.lance")


def test_the_root_is_itself_and_not_the_current_folder() -> None:
    assert Location.of("/") == Location("/")


def test_an_address_that_holds_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(DatasetError, match="must not hold credentials") as refused:
        Location.of("s3://key:hidden@bucket/a.lance")

    assert "hidden" not in str(refused.value)
