"""Rows in are rows out: what a pipeline makes of each of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.fakes import (
    ByteLength,
    DigestLabel,
    RaisesOn,
    ReturnsNaN,
    WrongRows,
    sha256_of,
    sha_of,
)

from laketag.errors import BadTagger
from laketag.taggers.decorated import tagger
from laketag.taggers.digest import input_digest
from laketag.taggers.pipeline import Pipeline, cores, predict
from laketag.taggers.rows import Labels, Row
from laketag.taggers.spec import find
from pipelines import Preparing, jpeg, labelled, numbered, rows

pytestmark = pytest.mark.usefixtures("no_thread_is_left")


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


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(pa.int64()), [1.5]),
        (pa.large_list(pa.int64()), [1.5]),
        (pa.list_(pa.int64(), 1), [1.5]),
        (pa.struct([("n", pa.int64())]), {"n": 1.5}),
    ],
)
def test_no_number_inside_a_value_is_rounded(kind: pa.DataType, value: Any) -> None:
    made = tagger(columns={"N": kind}, reads=("bytes",), name="n", version="1")(lambda values: {"N": [value]})

    (row,) = labelled(Pipeline([made]), [b"one"])

    assert "cannot hold" in row["N_ERROR"]


def test_what_prepare_raises_fails_its_row_alone() -> None:
    out = labelled(Pipeline([Preparing()]), [b"1", b"x", b"3"])

    assert [row["DOUBLE"] for row in out] == [2, None, 6]
    assert out[1]["PREPARING_ERROR"].startswith("ValueError: invalid literal for int()")


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


def test_a_pipeline_runs_again_and_counts() -> None:
    pipeline = Pipeline([RaisesOn(b"bad"), DigestLabel()])

    for _ in range(2):
        list(pipeline.run([(0, rows([*numbered(9), b"bad"]))]))

    assert pipeline.stats.predicted == 38


def test_taggers_that_clash_or_do_not_load_are_refused() -> None:
    class Broken(ByteLength):
        def load(self, device: str) -> Any:
            raise RuntimeError("no such device")

    with pytest.raises(BadTagger, match="both add BYTES"):
        Pipeline([ByteLength(), RaisesOn()])
    with pytest.raises(BadTagger, match="is given twice"):
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


def test_a_tagger_around_another_one_may_give_what_that_gives() -> None:
    class Around:
        def __getattr__(self, name: str) -> Any:
            return getattr(ByteLength(), name)

    assert labelled(Pipeline([Around()]), [b"123"])[0]["BYTES"] == 3  # type: ignore[list-item]


@pytest.mark.parametrize("kind", [pa.float32(), pa.int32(), pa.list_(pa.float32(), 2)])
def test_what_a_masked_array_masks_is_no_label(kind: pa.DataType) -> None:
    numbers = np.arange(4).reshape(2, 2) if pa.types.is_nested(kind) else np.arange(2)
    found = np.ma.masked_equal(numbers.astype(np.float64), 1)

    made = tagger(columns={"N": kind}, reads=("bytes",), name="n", version="1")(lambda values: {"N": found})

    told = [row["N_ERROR"] for row in labelled(Pipeline([made]), [b"a", b"b"])]
    is_first = pa.types.is_nested(kind)  # of a list one number is masked, in the first row
    assert [error is not None for error in told] == [is_first, not is_first]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "6400000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({}, 4),
    ],
)
def test_a_container_has_the_cores_that_its_quota_is_worth(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert cores(tmp_path) == expected
