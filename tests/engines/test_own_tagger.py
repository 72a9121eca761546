"""The module of a user's tagger reaches the workers of every engine by itself; what they lack is said."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from datasets import make
from fakes import NeedsModule, Weighty
from laketag.engines.local import Local
from laketag.engines.protocol import Engine, Workers, unheard
from laketag.errors import BadTagger, EngineError
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings


def test_files_that_travel_along_are_found_by_the_worker_as_they_are_now(
    engine: Engine, tmp_path: Path
) -> None:
    if isinstance(engine, Local):
        pytest.skip("a worker on this machine finds what the driver finds")
    carrying = dataclasses.replace(engine, py_files=(str(tmp_path / "along.py"),))

    def uses_it(n: int) -> int:
        import along  # type: ignore[import-not-found]  # it came along

        return int(along.add(n))

    found = []
    for more in (1000, 2000):  # changed between two runs, of which Spark uses the same workers
        (tmp_path / "along.py").write_text(f"def add(n):\n    return n + {more}\n")
        found.append(sorted(carrying.run(uses_it, [1, 2])))

    assert found == [[1001, 1002], [2001, 2002]]


def test_a_file_that_is_not_there_is_said_before_anything_starts(engine: Engine) -> None:
    if isinstance(engine, Local):
        pytest.skip("it takes none")
    carrying = dataclasses.replace(engine, py_files=("nowhere.py",))

    with pytest.raises(EngineError, match=r"py_files: nowhere\.py cannot be read"):
        list(carrying.run(len, ["a"]))


@pytest.mark.slow
def test_weights_that_only_the_driver_has_are_one_line_that_names_the_worker(
    engine: Engine, tmp_path: Path
) -> None:
    make(tmp_path / "data", 10)
    model, weights = tmp_path / "siglip", tmp_path / "head.pth"
    model.mkdir()
    for file in (model / "config.json", model / "model.safetensors", weights):
        file.touch()  # they are digested, and the worker does not get so far as to read them

    with pytest.raises(BadTagger, match=r"there is no head at .*head\.pth") as caught:
        tag(
            str(tmp_path / "data"),
            [f"aesthetic?encoder={model}&head={weights}"],
            settings=TagSettings(column="jpg"),
            engine=Without(engine, weights),
        )

    assert "\n" not in str(caught.value)
    assert ("(worker: process" in str(caught.value)) == (not isinstance(engine, Local))


@pytest.mark.slow
@pytest.mark.parametrize("tagger", [Weighty("/nowhere/weights.bin"), NeedsModule("not_installed_there")])
def test_what_an_own_tagger_needs_and_a_worker_lacks_is_named(
    engine: Engine, tagger: Weighty | NeedsModule, tmp_path: Path
) -> None:
    make(tmp_path / "data", 10)

    with pytest.raises(BadTagger, match=r"does not load on cpu: .*'; it must be there on every") as caught:
        tag(str(tmp_path / "data"), [tagger], settings=TagSettings(column="jpg"), engine=engine)

    assert ("(worker: process" in str(caught.value)) == (not isinstance(engine, Local))


@dataclass(frozen=True)
class Without:
    """An engine on whose workers a file is missing that the driver had when it planned."""

    engine: Engine
    file: Path

    def run(
        self, fn: Callable[[Any], Any], tasks: Sequence[Any], tell: Callable[[Workers], None] = unheard
    ) -> Generator[Any, None, None]:
        self.file.unlink()
        return self.engine.run(fn, tasks, tell)
