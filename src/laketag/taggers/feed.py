"""From chunks of raw rows to prepared rows: read, decoded and prepared ahead, in order, in bounded memory.

One thread reads; a pool decodes and prepares in small groups of rows; the consumer takes the groups in
the order of the rows. What is under way is bounded by its bytes: raw, decoded and prepared.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from laketag.taggers.budget import Budget, size_of
from laketag.taggers.decode import DecodeError, opened, pixels
from laketag.taggers.digest import input_digest
from laketag.taggers.protocol import BYTES, IMAGE, Model, Tagger
from laketag.taggers.rows import Row, Stats, reason

_GROUP_ROWS = 64
_GROUP_BYTES = 1 << 20
_LOOK_SECONDS = 0.2  # how soon a `stop` is seen while nothing arrives


@dataclass(slots=True)
class Prepared:
    """Some rows as one tagger takes them; four lists of one length."""

    positions: list[int] = field(default_factory=list)
    digests: list[int] = field(default_factory=list)
    errors: list[str | None] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    """What `prepare` gave; None where there is an error."""


@dataclass(slots=True)
class Group:
    """Some rows of a chunk, for each tagger."""

    prepared: list[Prepared]
    kept: int
    """What they still charge to the budget."""
    decode_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class Started:
    """A chunk begins."""

    key: Any


@dataclass(slots=True)
class Ended:
    """A chunk's rows have all been given."""


@dataclass(slots=True)
class _Raised:
    error: BaseException


_Opened = DecodeError | Any | None  # why there is no image, a Pillow image, or nothing to decode
_Event = Started | Ended | _Raised | None


class Feed:
    """The reader and the pool of one run; a context manager that ends its threads."""

    def __init__(
        self, models: list[tuple[Tagger, Model]], threads: int, *, budget: Budget, stats: Stats
    ) -> None:
        """Make the pool, of so many threads; nothing is read before `events` is."""
        self._steps = [_Step(tagger, model) for tagger, model in models]
        self._all = tuple(range(len(models)))
        self._budget = budget
        self._stats = stats
        self._events: queue.SimpleQueue[_Event | Future[Group]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(threads, "laketag-prepare", initializer=_yield_to_models)
        self._reader: threading.Thread | None = None
        self._rows: list[tuple[Row, _Opened]] = []
        self._charged = 0

    def __enter__(self) -> Feed:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads, after what each is doing at the moment."""
        self._budget.close()
        if self._reader is not None:
            self._reader.join()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def events(self, chunks: Iterable[Any], stop: Callable[[], bool]) -> Iterator[Started | Group | Ended]:
        """Yield what happens, in order; end at the end of the chunks or when `stop` turns true."""
        self._reader = threading.Thread(target=self._read, args=(chunks,), name="laketag-read", daemon=True)
        self._reader.start()
        while not stop():
            before = perf_counter()
            try:
                event = self._events.get(timeout=_LOOK_SECONDS)
                found = event.result() if isinstance(event, Future) else event
            except queue.Empty:
                continue
            finally:
                self._stats.wait_seconds += perf_counter() - before
            if found is None:
                return
            if isinstance(found, _Raised):
                raise found.error
            del event  # the future holds the group, and the group what was prepared
            self._take(found)
            yield found
            del found

    def _take(self, event: Started | Group | Ended) -> None:
        if isinstance(event, Started):
            self._budget.give(self._budget.floor)
        elif isinstance(event, Group):
            self._budget.give(event.kept)
            self._stats.decode_seconds += event.decode_seconds
            self._stats.prepare_seconds += event.seconds - event.decode_seconds

    def _read(self, chunks: Iterable[Any]) -> None:
        try:
            try:
                self._read_all(chunks)
            finally:
                _close(chunks)
        except BaseException as error:  # given to the consumer, who raises it
            self._events.put(_Raised(error))
        finally:
            self._events.put(None)

    def _read_all(self, chunks: Iterable[Any]) -> None:
        for key, rows in chunks:
            if not self._budget.take(self._budget.floor):
                return
            self._events.put(Started(key))
            try:
                if not all(self._admit(row) for row in rows):
                    return
            finally:
                _close(rows)
            self._submit()
            self._events.put(Ended())

    def _admit(self, row: Row) -> bool:
        image, cost = self._opened(row)
        if not self._budget.try_take(cost):
            self._submit()  # what waits here would never make room
            if not self._budget.take(cost):
                return False
        self._rows.append((row, image))
        self._charged += cost
        if len(self._rows) >= _GROUP_ROWS or self._charged >= _GROUP_BYTES:
            self._submit()
        return True

    def _opened(self, row: Row) -> tuple[_Opened, int]:
        """Read the image's header, here, because its size must be known before there is room for it."""
        cost = sum(map(size_of, row.inputs.values())) + self._budget.expected
        wanted = self._all if row.wanted_by is None else row.wanted_by
        if not any(self._steps[index].decodes for index in wanted):
            return None, cost
        try:
            image = opened(row.inputs[IMAGE])
        except DecodeError as error:
            return error, cost
        # Pillow keeps 4 bytes a pixel, and both the old and the new image while it converts.
        return image, cost + image.width * image.height * (4 if image.mode == "RGB" else 8)

    def _submit(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            rows.reverse()
            self._events.put(self._pool.submit(self._prepare, rows, self._charged))
            self._charged = 0

    def _prepare(self, rows: list[tuple[Row, _Opened]], charged: int) -> Group:
        started = perf_counter()
        group = Group([Prepared() for _ in self._steps], kept=0)
        largest = 0
        while rows:
            row, image = rows.pop()  # popped, so that each row's memory goes as soon as it is prepared
            if image is not None and not isinstance(image, DecodeError):
                before = perf_counter()
                image = _pixels(image)
                group.decode_seconds += perf_counter() - before
            kept = self._prepare_row(row, image, group.prepared)
            largest = max(largest, kept)
            group.kept += kept
        self._budget.settle(charged, kept=group.kept, largest=largest)
        group.seconds = perf_counter() - started
        return group

    def _prepare_row(self, row: Row, image: _Opened, prepared: list[Prepared]) -> int:
        digests: dict[tuple[str, ...], int] = {}
        kept = self._budget.floor
        for index in self._all if row.wanted_by is None else row.wanted_by:
            step, to = self._steps[index], prepared[index]
            inputs = {role: row.inputs[role] for role in step.reads}
            digest = digests.get(step.reads)
            if digest is None:
                digest = digests[step.reads] = input_digest(inputs)
            value, error = step.prepared(inputs, image)
            kept += size_of(value)
            to.positions.append(row.position)
            to.digests.append(digest)
            to.errors.append(error)
            to.values.append(value)
        return kept


class _Step:
    """How one tagger's rows are prepared."""

    def __init__(self, tagger: Tagger, model: Model) -> None:
        self.reads = tagger.reads
        self.decodes = IMAGE in tagger.reads
        self._reads_bytes = BYTES in tagger.reads
        self._prepare: Callable[[dict[str, Any]], Any] = getattr(model, "prepare", None) or self._as_it_is

    def prepared(self, inputs: dict[str, Any], image: _Opened) -> tuple[Any, str | None]:
        """Give the value for `predict`, or None and why not."""
        if self.decodes:
            if isinstance(image, DecodeError):
                return None, str(image)
            inputs[IMAGE] = image
        if self._reads_bytes and inputs[BYTES] is None:
            return None, "null image"
        try:
            return self._prepare(inputs), None
        except DecodeError as error:  # a tagger that decodes by itself
            return None, str(error)
        except Exception as error:  # a user's code, on one row: that row has the reason
            return None, reason(error)

    def _as_it_is(self, inputs: dict[str, Any]) -> Any:
        return inputs[self.reads[0]] if len(self.reads) == 1 else inputs


def _yield_to_models() -> None:
    """Let a model that computes on the CPU go first: interrupted, it would find its caches cold."""
    if sys.platform == "linux":  # elsewhere it would be said of the whole process
        os.nice(10)


def _pixels(image: Any) -> Any:
    try:
        return pixels(image)
    except DecodeError as error:
        return error


def _close(source: Any) -> None:
    if hasattr(source, "close"):
        source.close()
