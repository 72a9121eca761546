"""How chunks flow through a pipeline: in pieces, until a stop, in bounded memory."""

from __future__ import annotations

import os
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.fakes import (
    ByteLength,
    CountingTagger,
    DigestLabel,
    predicted,
    sha_of,
)

from laketag.taggers.decorated import tagger
from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Labels, Row
from pipelines import Preparing, jpeg, labelled, numbered, rows

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


class Recorded:
    """A model that notes its batches; where it works ahead, batches are begun before the one before ends."""

    def __init__(self, batches: list[list[bytes]], *, works_ahead: bool) -> None:
        self.batches = batches
        if works_ahead:
            self.begin = lambda values: partial(self.predict, values)

    def prepare(self, row: Mapping[str, Any]) -> bytes:
        if row["bytes"] == b"bad":
            raise ValueError("bad")
        value: bytes = row["bytes"]
        return value

    def predict(self, values: list[bytes]) -> pa.RecordBatch:
        self.batches.append(list(values))
        return pa.record_batch({"BYTES": pa.array([len(values) for _ in values], pa.int64())})


@dataclass(frozen=True)
class Recording(ByteLength):
    batches: list[list[bytes]] = field(default_factory=list)
    works_ahead: bool = False

    def load(self, device: str) -> Any:
        return Recorded(self.batches, works_ahead=self.works_ahead)


@pytest.mark.parametrize("works_ahead", [False, True])
def test_a_chunk_that_takes_long_comes_in_pieces_and_any_of_them_can_be_gone_on_from(
    works_ahead: bool,
) -> None:
    values = numbered(300)
    values[40], values[63], values[64], values[255] = b"bad", None, b"bad", b"bad"

    def run(rest: list[Row], most_seconds: float) -> tuple[list[Labels], list[list[bytes]]]:
        recording = Recording(10, works_ahead=works_ahead)
        pipeline = Pipeline([recording], threads=2)
        pieces = [labels for _, (labels,) in pipeline.run([("k", rest)], most_seconds=most_seconds)]
        return pieces, recording.batches

    (whole,), batches = run(rows(values), most_seconds=1000)
    pieces, same = run(rows(values), most_seconds=0)

    assert len(pieces) > 3
    assert [piece.is_whole for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert same == batches
    assert np.concatenate([piece.positions for piece in pieces]).tolist() == whole.positions.tolist()
    assert pa.Table.from_batches([piece.batch for piece in pieces]).to_pylist() == whole.batch.to_pylist()
    done = 0
    for piece in pieces:
        done += len(piece.positions)
        (rest,), later = run(rows(values[done:], first=done), most_seconds=1000)
        assert later == batches[len(batches) - len(later) :]
        assert rest.batch.to_pylist() == whole.batch.to_pylist()[done:]


def test_taggers_with_batches_of_their_own_come_in_pieces_of_their_own() -> None:
    given = [
        Row(i, {"bytes": value}, wanted)
        for i, (value, wanted) in enumerate(zip(numbered(200), cycle([None, (0,), (1,)])))
    ]
    taggers = [ByteLength(batch_size=7), DigestLabel(batch_size=64)]

    ((_, whole),) = Pipeline(taggers).run([("k", given)])
    pieces = [labels for _, labels in Pipeline(taggers).run([("k", given)], most_seconds=0)]

    assert len(pieces) > 2
    for number in range(2):
        batches = [labels[number].batch for labels in pieces]
        assert pa.Table.from_batches(batches).to_pylist() == whole[number].batch.to_pylist()
        positions = np.concatenate([labels[number].positions for labels in pieces])
        assert positions.tolist() == whole[number].positions.tolist()


def stop_after(calls: list[int], count: int) -> Any:
    return lambda: len(calls) >= count


def test_stop_yields_whole_batches_of_the_chunk_at_hand_and_ends() -> None:
    calls: list[int] = []

    @tagger(columns={"N": pa.int64()}, reads=("bytes",), batch_size=4, version="1")
    def counted(values: list[bytes]) -> dict[str, list[int]]:
        calls.append(len(values))
        return {"N": [len(v) for v in values]}

    pipeline = Pipeline([counted], stop=stop_after(calls, 5))
    values = numbered(16)
    values[1] = None
    out = list(pipeline.run((c, rows(values)) for c in range(10)))

    assert calls == [4, 4, 4, 3, 4]
    assert [key for key, _ in out] == [0, 1]
    assert [labels.is_whole for _, (labels,) in out] == [True, False]
    assert out[1][1][0].positions.tolist() == [0, 1, 2, 3, 4]


def test_stop_before_anything_yields_nothing() -> None:
    assert list(Pipeline([ByteLength()], stop=lambda: True).run([("k", rows(numbered(3)))])) == []


def test_stop_is_seen_while_the_reader_has_nothing_to_give() -> None:
    may_end = threading.Event()
    is_stopped = threading.Event()

    def slow() -> Iterator[tuple[int, list[Row]]]:
        yield 0, rows(numbered(3))
        is_stopped.set()
        may_end.wait(60)
        yield 1, rows(numbered(3))

    def stop() -> bool:
        if is_stopped.is_set():
            may_end.set()
        return is_stopped.is_set()

    out = list(Pipeline([ByteLength()], stop=stop).run(slow()))

    assert len(out) <= 1


class Interrupting(list[Row]):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def __iter__(self) -> Iterator[Row]:
        yield from rows(numbered(5))
        raise self.error


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt()])
def test_what_the_chunks_raise_is_raised_after_the_chunks_before(error: BaseException) -> None:
    run = Pipeline([ByteLength()]).run([(0, rows(numbered(5))), (1, Interrupting(error))])

    key, _ = next(run)
    with pytest.raises(type(error)):
        next(run)

    assert key == 0


def test_what_is_not_an_exception_of_the_model_is_raised() -> None:
    def interrupted(values: list[bytes]) -> Any:
        raise KeyboardInterrupt

    made = tagger(columns={"N": pa.int64()}, reads=("bytes",), version="1")(interrupted)

    with pytest.raises(KeyboardInterrupt):
        list(Pipeline([made]).run([(0, rows(numbered(5)))]))


def test_closing_early_ends_the_threads_and_closes_the_chunks() -> None:
    closed: list[bool] = []

    def endless() -> Iterator[tuple[int, list[Row]]]:
        try:
            for chunk in range(1_000_000):
                yield chunk, rows(numbered(10))
        finally:
            closed.append(True)

    run = Pipeline([ByteLength()]).run(endless())
    next(run)
    run.close()  # type: ignore[attr-defined]

    assert closed == [True]


def test_reading_ahead_is_bounded_and_lazy() -> None:
    read: list[int] = []

    def chunks() -> Iterator[tuple[int, Iterator[Row]]]:
        for chunk in range(100):
            yield chunk, (read.append(chunk) or Row(i, {"bytes": bytes(100_000)}) for i in range(10))  # type: ignore[func-returns-value]

    run = Pipeline([ByteLength()], budget_bytes=4_000_000).run(chunks())
    next(run)
    deadline = time.monotonic() + 10
    while read.count(1) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    ahead = len(read)
    run.close()  # type: ignore[attr-defined]

    assert 20 <= ahead <= 10 + 41  # the next chunk is read, and 4 MB at most


def test_images_larger_than_the_budget_pass_and_memory_stays_bounded() -> None:
    large = jpeg(1200, 1000)  # 4.8 MB decoded

    @tagger(columns={"W": pa.int32()}, batch_size=8, version="1")
    def width(images: list[Image.Image]) -> dict[str, list[int]]:
        widths.append(len(images))
        return {"W": [image.width for image in images]}

    widths: list[int] = []
    pipeline = Pipeline([width], budget_bytes=1 << 20, threads=2)
    out = labelled(pipeline, [large] * 12)

    assert [row["W"] for row in out] == [1200] * 12
    assert widths == [1] * 12  # a batch is bounded too


def test_small_rows_that_become_large_do_not_pile_up() -> None:
    alive: list[int] = []

    @dataclass(frozen=True)
    class Swelling(Preparing):
        batch_size: int = 1

        def prepare(self, row: Any) -> Any:
            return np.zeros(4 << 20, np.uint8)

        def predict(self, batch: list[Any]) -> pa.RecordBatch:
            alive.append(tracemalloc.get_traced_memory()[0])
            return pa.record_batch({"DOUBLE": pa.array([1] * len(batch), pa.int32())})

    tracemalloc.start()
    try:
        labelled(Pipeline([Swelling()], budget_bytes=32 << 20), numbered(100))
    finally:
        tracemalloc.stop()

    assert max(alive) < (64 + 16) << 20


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_threads_that_prepare_let_those_that_compute_go_first() -> None:
    class Noting(Preparing):
        def prepare(self, row: Any) -> int:
            return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    [row] = labelled(Pipeline([Noting()]), [b"1"])

    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert row["DOUBLE"] == 2 * min(19, own + 10)


def test_every_row_is_predicted_once(tmp_path: Any) -> None:
    values = numbered(1000)

    labelled(Pipeline([CountingTagger(str(tmp_path))], threads=4), values)

    assert predicted(tmp_path) == [sha_of(value or b"") for value in values]


def test_many_threads_have_work_also_where_images_are_large() -> None:
    at_once = [0, 0]
    counting = threading.Lock()

    @dataclass(frozen=True)
    class Looking(Preparing):
        reads: ClassVar[tuple[str, ...]] = ("image",)

        def prepare(self, row: Any) -> int:
            with counting:
                at_once[0] += 1
                at_once[1] = max(at_once)
            time.sleep(0.05)
            with counting:
                at_once[0] -= 1
            return 1

    large = jpeg(1200, 1000)  # 4.8 MB decoded, a quarter of the budget
    labelled(Pipeline([Looking()], budget_bytes=20 << 20, threads=16), [large] * 48)

    assert 8 < at_once[1] <= 16
