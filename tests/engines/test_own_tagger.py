"""A user's own module reaches the workers of every engine with nothing installed there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.errors import EngineError


def test_files_that_travel_along_are_found_by_the_worker(engine: Engine, tmp_path: Path) -> None:
    if isinstance(engine, Local):
        pytest.skip("a worker on this machine finds what the driver finds")
    (tmp_path / "along.py").write_text("def add(a, b):\n    return a + b\n")
    carrying = dataclasses.replace(engine, py_files=(str(tmp_path / "along.py"),))

    def uses_it(n: int) -> int:
        import along  # type: ignore[import-not-found]  # it came along

        return int(along.add(n, 1000))

    assert sorted(carrying.run(uses_it, [1, 2])) == [1001, 1002]


def test_a_file_that_is_not_there_is_said_before_anything_starts(engine: Engine) -> None:
    if isinstance(engine, Local):
        pytest.skip("it takes none")
    carrying = dataclasses.replace(engine, py_files=("nowhere.py",))

    with pytest.raises(EngineError, match=r"py_files: nowhere\.py cannot be read"):
        list(carrying.run(len, ["a"]))
