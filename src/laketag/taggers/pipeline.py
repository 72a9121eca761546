"""From raw inputs to labels: what a worker does to a chunk, without knowing where rows come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from math import ceil, inf
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import pyarrow as pa

from laketag.errors import BadTagger, LaketagError
from laketag.taggers.budget import Budget
from laketag.taggers.feed import Ended, Feed, Started
from laketag.taggers.predicting import Predictor
from laketag.taggers.protocol import (
    BYTES,
    IMAGE,
    Model,
    Tagger,
    batch_size_of,
    check,
    check_together,
    settled,
)
from laketag.taggers.rows import Labels, Row, Stats, reason
from laketag.taggers.sheet import Sheet
from laketag.taggers.spec import find_or_check

K = TypeVar("K")

BUDGET_BYTES = 256 << 20


def _never() -> bool:
    return False


class _Stop:
    """A `stop` that stays true, so that rows left out once are never followed by others."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._is_true = False

    def __call__(self) -> bool:
        self._is_true = self._is_true or self._ask()
        return self._is_true


class Pipeline:
    """Loaded taggers that label chunk after chunk, reading and decoding ahead while they predict."""

    stats: Stats
    """Where the time of all runs so far went."""

    def __init__(
        self,
        taggers: Sequence[Tagger],
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int | None = None,
        stop: Callable[[], bool] = _never,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        """Load the models.

        Args:
            taggers: run together; an image is decoded once for all that want it.
            device: given to `load`.
            threads: that decode and prepare; as many as there are cores where None.
            batch_size: rows in one `predict`, for every tagger; its own where None.
            stop: asked between batches; once true, the run ends after the batch at hand.
            budget_bytes: of one batch, and of rows under way (raw, decoded, prepared) for each four threads.

        Raises:
            BadTagger: not a tagger, clashing columns, or a model that does not load.
        """
        check_together([check(tagger) for tagger in taggers])
        self.stats = Stats()
        self._stop = stop
        self._threads = threads or cores()
        self._budget_bytes = budget_bytes
        self._models = [(tagger, _loaded(tagger, device)) for tagger in taggers]
        self._predictors = [
            Predictor(tagger, model, batch_size=batch_size or batch_size_of(tagger), stats=self.stats)
            for tagger, model in self._models
        ]

    def share(self, cores: int) -> None:
        """Tell the models how many of the machine's cores they have; other workers have the rest."""
        for _, model in self._models:
            use = getattr(model, "use_cores", None)
            if use is not None:
                use(cores)

    def run(
        self, chunks: Iterable[tuple[K, Iterable[Row]]], *, most_seconds: float = inf
    ) -> Generator[tuple[K, list[Labels]], None, None]:
        """Yield each chunk's labels, one `Labels` a tagger, in the order of the chunks.

        A chunk that takes longer than `most_seconds` comes in several pieces, cut between batches: all but
        its last one have `is_whole` false.

        `chunks` and the rows of each are read in one thread, ahead, and closed in the end where they
        can be. Rows in, rows out: a row that fails has null labels and a reason. Where `stop` cuts
        a chunk, what it has so far is yielded, with `is_whole` false, and the run ends. Exceptions of
        `chunks` are raised here, after the chunks before them. Once it is closed, nothing is read.

        Raises:
            DeviceLost: a model's device refuses all further work.
        """
        started = perf_counter()
        try:
            yield from self._run(chunks, most_seconds)
        finally:
            seconds = perf_counter() - started
            self.stats.seconds += seconds
            self.stats.thread_seconds += seconds * self._threads
            self.stats.busy_seconds = sum(getattr(model, "busy_seconds", 0.0) for _, model in self._models)

    def _run(
        self, chunks: Iterable[tuple[K, Iterable[Row]]], most_seconds: float
    ) -> Iterator[tuple[K, list[Labels]]]:
        sheets: list[Sheet] = []
        key: Any = None
        given = perf_counter()
        stop = _Stop(self._stop)
        # More threads need more room: a large photograph takes a fifth of it, and the others would idle.
        budget = Budget(self._budget_bytes * max(4, self._threads) // 4)
        with Feed(self._models, self._threads, budget=budget, stats=self.stats) as feed:
            for event in feed.events(chunks, stop):
                if isinstance(event, Started):
                    key, sheets = event.key, [Sheet(p, self._budget_bytes) for p in self._predictors]
                elif isinstance(event, Ended):
                    if not _flushed(sheets, stop):
                        break
                    whole, sheets = sheets, []
                    yield key, [sheet.labels(is_whole=True) for sheet in whole]
                    given = perf_counter()
                else:
                    for sheet, prepared in zip(sheets, event.prepared, strict=True):
                        if not stop():
                            sheet.add(prepared, stop)
                    if perf_counter() - given > most_seconds and any(sheet.settled for sheet in sheets):
                        yield key, [sheet.taken() for sheet in sheets]
                        given = perf_counter()
                del event  # what was prepared is not held while the next group is waited for
        rest = [sheet.cut() for sheet in sheets]
        if any(len(labels.positions) for labels in rest):
            yield key, rest


def predict(
    tagger: Tagger | str,
    images: Sequence[bytes | None],
    *,
    device: str = "cpu",
    batch_size: int | None = None,
) -> pa.Table:
    """Label images in memory, by a tagger or the name of one.

    Returns one row per image, in order: the tagger's columns, `<NAME>_ERROR` and `<NAME>_DIGEST`.

    Raises:
        UnknownTagger: no tagger has the name.
        BadTagger: the tagger reads other columns than the image, or does not load.
        DeviceLost: its device refuses all further work.
    """
    tagger = find_or_check(tagger)
    others = [role for role in tagger.reads if role not in (IMAGE, BYTES)]
    if others:
        raise BadTagger(f"tagger {tagger.name} reads {', '.join(others)}: only a dataset has it, use `tag`")
    rows = (Row(position, {IMAGE: image, BYTES: image}) for position, image in enumerate(images))
    placed = settled(tagger, device)
    ((_, (labels,)),) = Pipeline([placed], device=device, batch_size=batch_size).run([(None, rows)])
    return pa.Table.from_batches([labels.batch])


def _flushed(sheets: list[Sheet], stop: Callable[[], bool]) -> bool:
    for sheet in sheets:
        if stop():
            return False
        sheet.flush()
    return True


def cores(control: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores that this process may use: a container's share, where the system can tell it.

    Args:
        control: where a container finds its limits.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(here, _quota(control) or here)


def _quota(control: Path) -> int:
    """Read how many cores' time the system grants, rounded up; 0 where it sets no limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):  # version 2, version 1
        with suppress(OSError):
            granted, period = " ".join((control / name).read_text() for name in names).split()
            return 0 if granted in ("max", "-1") else ceil(int(granted) / int(period))
    return 0


def _loaded(tagger: Tagger, device: str) -> Model:
    try:
        return tagger.load(device)
    except LaketagError:
        raise
    except Exception as error:  # a user's code: what it says is all that is known
        is_lacking = isinstance(error, FileNotFoundError | ModuleNotFoundError)
        then = "; it must be there on every machine that workers run on" if is_lacking else ""
        raise BadTagger(f"tagger {tagger.name} does not load on {device}: {reason(error)}{then}") from error
