"""The aesthetic tagger on a dataset: what is committed, resumed, rescored, and found again by its vector.

A process needs seconds to import torch: most of these tests predict in their own.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from skimage import data

import laketag
from datasets import staged_files
from here import Here
from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.errors import ColumnError, JobRefused, TooManyErrors, WrongUsage
from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.rescoring import AestheticHead
from programs import environment
from siglips import DIMENSION, encoder, head

pytestmark = pytest.mark.slow

PHOTOGRAPHS = (data.astronaut, data.coffee, data.rocket, data.cat)
ROWS = 24
BROKEN = 5
ENOUGH = 5


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Aesthetic:
    folder = tmp_path_factory.mktemp("models")
    return Aesthetic(encoder=str(encoder(folder / "siglip")), head=str(head(folder / "head.pth")))


def photograph(number: int) -> bytes:
    """Make a photograph; every fourth looks like the first, and each is cut in its own way."""
    image = Image.fromarray(PHOTOGRAPHS[number % 4]())
    buffer = io.BytesIO()
    image.crop((number // 4, 0, *image.size)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset without labels. Read it only."""
    images = [b"broken" if number == BROKEN else photograph(number) for number in range(ROWS)]
    keys = [f"it's {number}" for number in range(ROWS)]
    table = pa.table({"__key__": keys, "jpg": pa.array(images, pa.binary())})
    folder = tmp_path_factory.mktemp("photographs") / "lake"
    lance.write_dataset(table, str(folder), max_rows_per_file=8, data_storage_version="2.2")
    return folder


@pytest.fixture
def uri(photographs: Path, tmp_path: Path) -> str:
    return str(shutil.copytree(photographs, tmp_path / "lake"))


@pytest.fixture(scope="module")
def embedded(photographs: Path, tagger: Aesthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with labels and vectors. Read it only."""
    folder = shutil.copytree(photographs, tmp_path_factory.mktemp("embedded") / "lake")
    tag(str(folder), replace(tagger, embedding="SIGLIP"))
    return folder


@pytest.fixture
def vectors(embedded: Path, tmp_path: Path) -> str:
    """The same dataset, for a test to change."""
    return str(shutil.copytree(embedded, tmp_path / "vectors"))


def tag(uri: str, tagger: laketag.Tagger, **options: Any) -> laketag.TagReport:
    return laketag.tag(uri, [tagger], **({"engine": Here()} | options))


def rows(uri: str, *columns: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lance.dataset(uri).to_table(columns=list(columns) or None).to_pylist()
    return found


def test_a_failed_row_is_committed_with_the_tag_error_and_not_tried_again(
    uri: str, tagger: Aesthetic
) -> None:
    report = tag(uri, tagger)
    again = tag(uri, tagger)

    found = rows(uri, "AESTHETIC_SCORE", "AESTHETIC_TAG", "AESTHETIC_ERROR", "AESTHETIC_DIGEST")
    assert found[BROKEN]["AESTHETIC_SCORE"] is None
    assert found[BROKEN]["AESTHETIC_TAG"] == "error"
    assert found[BROKEN]["AESTHETIC_ERROR"] == "not an image"
    assert found[BROKEN]["AESTHETIC_DIGEST"] is not None
    assert {row["AESTHETIC_TAG"] for row in found} == {"error", "very displeasing"}
    assert (report.computed, report.failed, again.computed) == (ROWS, 1, 0)


def test_a_crash_costs_few_of_its_rows_on_a_cpu_since_each_takes_seconds(tagger: Aesthetic, uri: str) -> None:
    many = pa.concat_tables([lance.dataset(uri).to_table()] * 30)
    lance.write_dataset(many, f"{uri}-many", max_rows_per_file=len(many))

    told = tag(f"{uri}-many", tagger, settings=laketag.TagSettings(dry_run=True)).estimate

    assert told is not None
    assert told.tasks == -(-len(many) // 128)


def test_a_row_that_is_not_computed_has_no_tag(uri: str, tagger: Aesthetic) -> None:
    tag(uri, tagger, rows=laketag.Rows(limit=8))

    assert [row["AESTHETIC_TAG"] is None for row in rows(uri, "AESTHETIC_TAG")] == [False] * 8 + [True] * 16


def test_workers_chunks_and_batches_change_no_score_by_much_and_the_same_ones_not_at_all(
    uri: str, tagger: Aesthetic
) -> None:
    def scores(prefix: str, engine: Engine, settings: laketag.TagSettings) -> list[float]:
        tag(uri, replace(tagger, prefix=prefix), settings=settings, engine=engine)
        return [row[f"{prefix}_SCORE"] for row in rows(uri, f"{prefix}_SCORE") if row[f"{prefix}_SCORE"]]

    first = scores("A", Here(), laketag.TagSettings())
    again = scores("B", Here(), laketag.TagSettings())
    others = scores("C", Local(2), laketag.TagSettings(chunk_rows=5, batch_size=3))

    assert again == first
    assert others == pytest.approx(first, abs=1e-5)


PROGRAM = """
import sys
import laketag
from laketag.taggers.aesthetic import Aesthetic
tagger = Aesthetic(encoder=sys.argv[2], head=sys.argv[3])
laketag.tag(sys.argv[1], [tagger], settings=laketag.TagSettings(chunk_rows=8, batch_size=3))
"""


def test_killed_and_resumed_its_scores_are_those_of_an_unbroken_run_to_the_bit(
    uri: str, tagger: Aesthetic
) -> None:
    settings = laketag.TagSettings(chunk_rows=8, batch_size=3)
    tag(uri, replace(tagger, prefix="UNBROKEN"), settings=settings)
    many = pa.concat_tables([lance.dataset(uri).to_table(columns=["__key__", "jpg"])] * 8)
    lance.write_dataset(many, f"{uri}-many", max_rows_per_file=8, data_storage_version="2.2")
    for number in (signal.SIGKILL, signal.SIGTERM):
        _end_when_some_is_staged(number, f"{uri}-many", tagger)

    report = tag(f"{uri}-many", tagger, settings=settings)

    assert 0 < report.skipped < len(many)
    expected = [row["UNBROKEN_SCORE"] for row in rows(uri, "UNBROKEN_SCORE")]
    assert [row["AESTHETIC_SCORE"] for row in rows(f"{uri}-many", "AESTHETIC_SCORE")] == expected * 8


def _end_when_some_is_staged(number: signal.Signals, uri: str, tagger: Aesthetic) -> None:
    enough = len(staged_files(Path(uri))) + ENOUGH
    command = [sys.executable, "-c", PROGRAM, uri, tagger.encoder, tagger.head]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    while process.poll() is None and len(staged_files(Path(uri))) < enough:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait() != 0
    time.sleep(1)  # its worker sees that it is gone


def test_labels_of_another_dtype_do_not_mix_and_the_dtype_goes_on_with_them(
    uri: str, tagger: Aesthetic
) -> None:
    tag(uri, replace(tagger, dtype="bf16"), rows=laketag.Rows(limit=8))

    with pytest.raises(JobRefused, match=r"with dtype bf16 \(not fp32\), and labels"):
        tag(uri, tagger)
    assert tag(uri, replace(tagger, dtype="bf16")).computed == ROWS - 8


def test_another_head_rescores_from_the_vectors_and_reads_no_image(
    vectors: str, tagger: Aesthetic, tmp_path: Path
) -> None:
    other = str(head(tmp_path / "other.pth", seed=8))
    expected = laketag.predict(replace(tagger, head=other), [photograph(n) for n in range(ROWS)])
    expected_scores = expected["AESTHETIC_SCORE"].to_pylist()

    report = tag(vectors, AestheticHead(head=other))

    found = rows(vectors, "AESTHETIC_HEAD_SCORE", "AESTHETIC_HEAD_TAG", "AESTHETIC_HEAD_ERROR")
    scored = [row for number, row in enumerate(found) if number != BROKEN]
    del expected_scores[BROKEN]
    # The vectors were kept in float16: eleven bits of each number.
    assert [row["AESTHETIC_HEAD_SCORE"] for row in scored] == pytest.approx(expected_scores, abs=5e-3)
    assert found[BROKEN]["AESTHETIC_HEAD_TAG"] == "error"
    assert found[BROKEN]["AESTHETIC_HEAD_ERROR"] == "ValueError: null SIGLIP"
    images = sum(len(row["jpg"]) for row in rows(vectors, "jpg"))
    assert report.bytes_read < images / 10


def test_a_head_on_a_column_of_another_kind_says_what_it_takes(vectors: str, tagger: Aesthetic) -> None:
    with pytest.raises(TooManyErrors, match="no vector of 32 numbers"):
        tag(vectors, AestheticHead(embedding="__key__", head=tagger.head))


def test_what_is_similar_to_a_row_is_found_by_its_vector(vectors: str) -> None:
    def similar(**options: Any) -> pa.Table:
        selection = laketag.Selection(similar_to="it's 4", columns=("__key__",), **options)
        return pa.Table.from_batches(laketag.query(vectors, selection=selection))

    before = similar(limit=5)
    made = laketag.index(vectors, "SIGLIP")
    after = similar(limit=5)

    alike = {f"it's {number}" for number in range(0, ROWS, 4)} - {"it's 4"}
    assert set(before["__key__"].to_pylist()) == alike
    assert np.all(np.diff(before["_distance"].to_numpy()) >= 0)
    assert made.kind == "vector"
    assert after["__key__"].to_pylist() == before["__key__"].to_pylist()
    assert similar(where="`__key__` = 'it''s 7'")["__key__"].to_pylist() == ["it's 7"]
    assert (len(similar()), len(similar(limit=0))) == (10, 0)


def test_what_similar_cannot_do_is_said(photographs: Path, embedded: Path) -> None:
    def asked(uri: Path = embedded, **options: Any) -> None:
        list(laketag.query(str(uri), selection=laketag.Selection(**options)))

    with pytest.raises(ColumnError, match="no column holds vectors"):
        asked(photographs, similar_to="it's 4")
    with pytest.raises(ColumnError, match="no row has the key 'nobody'"):
        asked(similar_to="nobody")
    with pytest.raises(ColumnError, match="has no vector in 'SIGLIP'"):
        asked(similar_to=f"it's {BROKEN}")
    with pytest.raises(ColumnError, match="holds string, not vectors"):
        asked(similar_to="it's 4", vector="__key__")
    with pytest.raises(WrongUsage, match="in the order of its distance"):
        asked(similar_to="it's 4", order_by="__key__")
    with pytest.raises(WrongUsage, match="stands alone"):
        asked(similar_to="it's 4", sql="select 1")


def test_vectors_are_in_no_table_unless_they_are_asked_for(embedded: Path) -> None:
    batch = next(laketag.query(str(embedded)))

    assert "SIGLIP" not in batch.schema.names
    assert lance.dataset(str(embedded)).schema.field("SIGLIP").type == pa.list_(pa.float16(), DIMENSION)
