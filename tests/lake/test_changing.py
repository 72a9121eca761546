"""Changes that cannot be made, where Lance's words could be taken for others at work."""

from __future__ import annotations

from pathlib import Path

import pytest

import laketag
import writers
from laketag.errors import ColumnError


def test_an_error_is_no_conflict_because_the_path_in_it_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "conflict"
    uri = writers.make(folder, stable_row_ids=True)
    (folder / "data").rename(tmp_path / "elsewhere")

    with pytest.raises(ColumnError, match=r"Not found: .*conflict/data"):
        laketag.cast_column(uri, "extra", "int64")
