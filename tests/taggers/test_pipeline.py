from __future__ import annotations

import io
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
    RaisesOn,
    ReturnsNaN,
    WrongRows,
    predicted,
    sha256_of,
    sha_of,
)

from laketag.errors import BadTagger
from laketag.taggers import Labels, Pipeline, Row, find, input_digest, predict, tagger


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert {t for t in threading.enumerate() if t.name.startswith("laketag")} <= before


def rows(values: list[bytes | None], first: int = 0) -> list[Row]:
    return [Row(first + i, {"bytes": value, "image": value}) for i, value in enumerate(values)]


def numbered(count: int) -> list[bytes | None]:
    return [b"row %d" % i for i in range(count)]


def labelled(pipeline: Pipeline, values: list[bytes | None]) -> list[dict[str, Any]]:
    ((_, (labels,)),) = pipeline.run([("only", rows(values))])
    result: list[dict[str, Any]] = labels.batch.to_pylist()
    assert labels.positions.tolist() == list(range(len(values)))
    return result


def jpeg(width: int = 8, height: int = 8, level: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_rows_in_are_rows_out_in_order_with_exact_types() -> None:
    chunks = [(("f", 0), rows(numbered(100))), (("f", 1), []), (("f", 2), rows(numbered(7), first=500))]

    out = list(Pipeline([DigestLabel(), ByteLength(batch_size=3)]).run(chunks))

    assert [key for key, _ in out] == [("f", 0), ("f", 1), ("f", 2)]
    for (_, given), (_, (sha, length)) in zip(chunks, out, strict=True):
        values = [row.inputs["bytes"] for row in given]
        assert sha.is_whole
        assert sha.positions.dtype == np.int64
        assert sha.positions.tolist() == length.positions.tolist() == [row.position for row in given]
        assert sha.batch["SHA256"].to_pylist() == [sha256_of(v) for v in values]
        assert sha.batch["DIGESTLABEL_DIGEST"].to_pylist() == [input_digest({"bytes": v}) for v in values]
        assert length.batch["BYTES"].to_pylist() == [len(v) for v in values]
        assert sha.batch.schema == pa.schema(
            {
                "SHA256": pa.string(),
                "SHA": pa.int64(),
                "DIGESTLABEL_ERROR": pa.string(),
                "DIGESTLABEL_DIGEST": pa.int64(),
            }
        )


def test_a_tagger_gets_only_the_rows_that_want_it() -> None:
    given = [Row(i, {"bytes": b"%d" % i}, wanted) for i, wanted in enumerate([None, (0,), (1,), (), (0, 1)])]

    ((_, (first, second)),) = Pipeline([ByteLength(), DigestLabel()]).run([("k", given)])

    assert first.positions.tolist() == [0, 1, 4]
    assert second.positions.tolist() == [0, 2, 4]
    assert second.batch["SHA"].to_pylist() == [sha_of(b"%d" % i) for i in (0, 2, 4)]


def test_batches_lie_on_the_chunks_rows_and_never_cross_a_chunk() -> None:
    sizes: list[list[bytes]] = []

    @tagger(columns={"N": pa.int64()}, reads=("bytes",), batch_size=4)
    def sized(values: list[bytes]) -> dict[str, list[int]]:
        sizes.append(values)
        return {"N": [len(v) for v in values]}

    list(Pipeline([sized], threads=3).run([(0, rows(numbered(10))), (1, rows(numbered(3)))]))

    assert [len(values) for values in sizes] == [4, 4, 2, 3]
    assert [v for values in sizes for v in values] == [*numbered(10), *numbered(3)]


def test_a_broken_image_fails_its_row_in_every_tagger_that_decodes() -> None:
    good = jpeg()
    values = [good, None, b"", b"no image", good[: len(good) // 2], good]

    @tagger(columns={"LEVEL": pa.float32()}, batch_size=2)
    def level(images: list[Image.Image]) -> dict[str, list[float]]:
        return {"LEVEL": [float(np.asarray(image).mean()) for image in images]}

    ((_, (quality, levels, length)),) = Pipeline([find("quality"), level, ByteLength()]).run(
        [("k", rows(values))]
    )

    reasons = [None, "null image", "empty image: 0 bytes", "not an image", "truncated image", None]
    assert quality.batch["QUALITY_ERROR"].to_pylist() == reasons
    assert levels.batch["LEVEL_ERROR"].to_pylist() == reasons
    assert levels.batch["LEVEL"].to_pylist() == pytest.approx([100.0, None, None, None, None, 100.0])
    assert quality.batch["IMAGE_WIDTH"].to_pylist() == [8, None, None, None, None, 8]
    assert length.batch["BYTELENGTH_ERROR"].to_pylist() == [None, "null image", None, None, None, None]
    for labels, name in [(quality, "QUALITY"), (levels, "LEVEL"), (length, "BYTELENGTH")]:
        digests = labels.batch[f"{name}_DIGEST"].to_pylist()
        assert digests == [input_digest({"bytes": value}) for value in values]


def test_an_image_is_decoded_once_for_all_taggers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[int]] = {"one": [], "two": []}

    def watching(name: str) -> Any:
        def watch(images: list[Image.Image]) -> dict[str, list[int]]:
            seen[name] += map(id, images)
            kept.extend(images)
            return {name: [image.width for image in images]}

        return tagger(columns={name: pa.int32()}, name=name, version="1")(watch)

    kept: list[Image.Image] = []
    list(Pipeline([watching("one"), watching("two")]).run([("k", rows([jpeg(4 + i) for i in range(20)]))]))

    assert seen["one"] == seen["two"]
    assert len(set(seen["one"])) == 20


@pytest.mark.parametrize("batch_size", [1, 5, 32])
def test_a_row_that_predict_raises_on_fails_alone(batch_size: int) -> None:
    values = numbered(50)
    values[17] = b"a bad one"
    values[49] = b"bad too"

    out = labelled(Pipeline([RaisesOn(b"bad", batch_size=batch_size)]), values)

    failed = {i: row["RAISES_ERROR"] for i, row in enumerate(out) if row["RAISES_ERROR"]}
    assert failed == {17: "ValueError: a row with bad", 49: "ValueError: a row with bad"}
    assert [i for i, row in enumerate(out) if row["BYTES"] is None] == [17, 49]


def test_an_exception_that_does_not_persist_fails_nothing(tmp_path: Any) -> None:
    out = labelled(Pipeline([RaisesOn(nth=1, folder=str(tmp_path))]), numbered(10))

    assert [row["RAISES_ERROR"] for row in out] == [None] * 10


@pytest.mark.parametrize("by", [-1, 1])
def test_a_wrong_number_of_rows_fails_the_whole_batch(by: int) -> None:
    values = numbered(20)
    values[6] = b"odd"

    out = labelled(Pipeline([WrongRows(by=by, marker=b"odd", batch_size=5)]), values)

    failed = {i: row["WRONGROWS_ERROR"] for i, row in enumerate(out) if row["WRONGROWS_ERROR"]}
    assert failed == dict.fromkeys(range(5, 10), f"predict returned {5 + by} rows for a batch of 5")


def test_nan_and_null_are_failures_that_name_the_column() -> None:
    values = numbered(9)
    values[2] = b"nan"
    out = labelled(Pipeline([ReturnsNaN(b"nan", batch_size=2)]), values)

    assert out[2]["RETURNSNAN_ERROR"] == "the tagger returned NaN for SCORE"
    assert [i for i, row in enumerate(out) if row["SCORE"] is None] == [2]

    @tagger(columns={"A": pa.int64(), "B": pa.string()}, reads=("bytes",))
    def partly(values: list[bytes]) -> dict[str, list[Any]]:
        return {"A": [len(v) for v in values], "B": [None if v == b"row 4" else "b" for v in values]}

    out = labelled(Pipeline([partly]), numbered(6))

    assert (out[4]["A"], out[4]["B"], out[4]["PARTLY_ERROR"]) == (
        None,
        None,
        "the tagger returned null for B",
    )
    assert [row["PARTLY_ERROR"] for row in out].count(None) == 5


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float32()), pa.large_list(pa.float64())]
)
def test_a_list_that_holds_nan_or_null_is_a_failure(kind: pa.DataType) -> None:
    made: list[Any] = [[1.0, 2.0], [float("nan"), 1.0], [None, 1.0], None, [3.0, 4.0]]

    @tagger(columns={"V": kind}, reads=("bytes",), version="1")
    def vector(values: list[bytes]) -> dict[str, list[Any]]:
        return {"V": [made[int(v.split()[1])] for v in values]}

    out = labelled(Pipeline([vector]), numbered(5))

    text = "the tagger returned {} for V".format
    assert [row["VECTOR_ERROR"] for row in out] == [None, text("NaN"), text("null"), text("null"), None]
    assert [row["V"] for row in out] == [[1.0, 2.0], None, None, None, [3.0, 4.0]]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"A": [1]}, "columns ['A'], not ['N']"),
        ({"N": [1], "A": [1]}, "columns ['N', 'A'], not ['N']"),
        ({"N": pa.array(["1"])}, "string for N, which is int64"),
        ({"N": np.array([1.5])}, "cannot hold"),
        ([1], "TypeError: it returned a list"),
        ({"N": [1.5]}, "cannot hold"),
        ({"N": ["1"]}, "string for N"),
    ],
)
def test_wrong_columns_and_types_are_a_reason_for_the_rows(result: Any, text: str) -> None:
    made = tagger(columns={"N": pa.int64()}, reads=("bytes",), name="n", version="1")(lambda values: result)

    (row,) = labelled(Pipeline([made]), [b"one"])

    assert text in row["N_ERROR"]
    assert row["N"] is None
    assert "\n" not in row["N_ERROR"]


def test_what_prepare_raises_fails_its_row_alone() -> None:
    out = labelled(Pipeline([Preparing()]), [b"1", b"x", b"3"])

    assert [row["DOUBLE"] for row in out] == [2, None, 6]
    assert out[1]["PREPARING_ERROR"].startswith("ValueError: invalid literal for int()")


@dataclass(frozen=True)
class Preparing:
    name: ClassVar[str] = "preparing"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("DOUBLE", pa.int32())])

    def load(self, device: str) -> Any:
        return self

    def prepare(self, row: Any) -> int:
        return int(row["bytes"])

    def predict(self, batch: list[int]) -> pa.RecordBatch:
        return pa.record_batch({"DOUBLE": [2 * value for value in batch]})


def test_a_batch_that_does_not_fit_is_halved_and_the_size_that_fits_is_kept() -> None:
    sizes: list[int] = []

    @tagger(columns={"N": pa.int64()}, reads=("bytes",), batch_size=16, version="1")
    def tight(values: list[bytes]) -> dict[str, list[int]]:
        sizes.append(len(values))
        if len(values) > 5:
            raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB")
        return {"N": [len(v) for v in values]}

    out = labelled(Pipeline([tight]), numbered(48))

    assert sizes == [16, 8, *[4] * 12]
    assert [row["TIGHT_ERROR"] for row in out] == [None] * 48


def test_roles_other_than_the_image_are_given_as_they_are() -> None:
    @tagger(columns={"N": pa.int64()}, reads=("text", "caption"))
    def lengths(texts: list[str], captions: list[str | None]) -> dict[str, list[int]]:
        return {"N": [len(t) + len(c or "") for t, c in zip(texts, captions, strict=True)]}

    given = [Row(0, {"text": "abc", "caption": None}), Row(1, {"text": "a", "caption": "bc"})]
    ((_, (labels,)),) = Pipeline([lengths]).run([("k", given)])

    assert labels.batch["N"].to_pylist() == [3, 3]
    assert labels.batch["LENGTHS_DIGEST"].to_pylist() == [input_digest(row.inputs) for row in given]


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
        assert pipeline.stats.failed == sum(
            len(piece.batch) - piece.batch["BYTELENGTH_ERROR"].null_count for piece in pieces
        )
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


def test_every_row_is_predicted_once(tmp_path: Any) -> None:
    values = numbered(1000)

    labelled(Pipeline([CountingTagger(str(tmp_path))], threads=4), values)

    assert predicted(tmp_path) == [sha_of(value or b"") for value in values]


def test_a_pipeline_runs_again_and_counts() -> None:
    pipeline = Pipeline([RaisesOn(b"bad"), DigestLabel()])

    for _ in range(2):
        list(pipeline.run([(0, rows([*numbered(9), b"bad"]))]))

    assert (pipeline.stats.rows, pipeline.stats.predicted, pipeline.stats.failed) == (20, 38, 2)


def test_taggers_that_clash_or_do_not_load_are_refused() -> None:
    class Broken(ByteLength):
        def load(self, device: str) -> Any:
            raise RuntimeError("no such device")

    with pytest.raises(BadTagger, match="both add BYTES"):
        Pipeline([ByteLength(), RaisesOn()])
    with pytest.raises(BadTagger, match="both add"):
        Pipeline([ByteLength(), ByteLength()])
    with pytest.raises(BadTagger, match="does not load on cuda:7: RuntimeError: no such device"):
        Pipeline([Broken()], device="cuda:7")


def test_predict_labels_images_in_memory() -> None:
    table = predict(find("quality"), [jpeg(5, 6), None])

    assert table["IMAGE_HEIGHT"].to_pylist() == [6, None]
    assert predict(find("quality"), []).num_rows == 0
    made = tagger(columns={"N": pa.int64()}, reads=("image", "caption"), version="1")(
        test_predict_labels_images_in_memory
    )
    with pytest.raises(BadTagger, match="caption"):
        predict(made, [b""])


def test_labels_are_a_value() -> None:
    ((_, (labels,)),) = Pipeline([ByteLength()]).run([(0, rows(numbered(2)))])

    assert isinstance(labels, Labels)
    assert labels.batch.num_rows == len(labels.positions) == 2
