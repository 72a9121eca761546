from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass, field

import pytest

from laketag.taggers.rows import Labels
from laketag.tagging.compute import Compute, Work
from laketag.tagging.plan import Chunk
from laketag.tagging.task import Task


@dataclass
class Watched(Work):
    """Work whose staging waits until the next chunk is asked for, or fails."""

    is_asked: threading.Event = field(default_factory=threading.Event)
    fails_on: str = ""
    staged: list[tuple[str, bool]] = field(default_factory=list)
    is_closed: bool = False

    def stage(self, chunk: Chunk, labels: list[Labels]) -> None:
        if chunk.key == self.fails_on:
            raise OSError("disk full")
        self.staged.append((chunk.key, self.is_asked.wait(30)))

    def labelled(self, keys: str) -> Generator[tuple[Chunk, list[Labels]], None, None]:
        try:
            for key in keys:
                yield Chunk(key, ()), []
                self.is_asked.set()
        finally:
            self.is_closed = True


def watched(fails_on: str = "") -> Watched:
    task = Task((), (), ())
    return Watched(Compute.__new__(Compute), None, task, fails_on=fails_on)  # type: ignore[arg-type]


def test_a_chunk_is_staged_while_the_next_one_is_predicted() -> None:
    work = watched()

    work.stage_beside(work.labelled("abc"))

    assert work.staged == [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize("fails_on", ["a", "c"])
def test_what_staging_raises_ends_the_work(fails_on: str) -> None:
    work = watched(fails_on)

    with pytest.raises(OSError, match="disk full"):
        work.stage_beside(work.labelled("abc"))

    assert [key for key, _ in work.staged] == list("ab" if fails_on == "c" else "")


def test_nothing_is_read_ahead_any_more_when_staging_has_failed() -> None:
    work = watched(fails_on="a")

    with pytest.raises(OSError, match="disk full") as raised:
        work.stage_beside(work.labelled("abc"))

    assert raised.tb is not None  # it holds what it went through, which would stay open
    assert work.is_closed
