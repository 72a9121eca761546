"""Taggers that read other columns than the image: their labels follow those columns."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

from datasets import make
from fakes import CaptionLength, DigestLabel
from here import tag
from laketag.errors import ColumnError, WrongUsage
from laketag.lake.evolving import add_column
from laketag.tagging.settings import TagSettings


def captioned(folder: Path) -> str:
    make(folder)
    dataset = lance.dataset(str(folder))
    dataset.add_columns({"caption": "concat('number ', cast(number as string))"})
    return str(folder)


def lengths(uri: str) -> dict[int, int | None]:
    rows = lance.dataset(uri).to_table(columns=["number", "CAPTION_LENGTH"]).to_pylist()
    return {row["number"]: row["CAPTION_LENGTH"] for row in rows}


@pytest.mark.slow
def test_labels_of_replaced_captions_are_computed_again(tmp_path: Path) -> None:
    uri = captioned(tmp_path)
    tag(uri, [CaptionLength()])
    lance.dataset(uri).update({"caption": "'x'"}, where="number < 10")

    report = tag(uri, [CaptionLength()])

    assert report.computed == 10
    assert lengths(uri) == {n: 1 if n < 10 else len(f"number {n}") for n in range(300)}


@pytest.mark.slow
def test_a_caption_column_that_was_made_anew_leaves_no_old_label(tmp_path: Path) -> None:
    uri = captioned(tmp_path)
    tag(uri, [CaptionLength()])
    anew = "case when number < 10 then 'x' else concat('number ', cast(number as string)) end"
    add_column(uri, "caption", anew, replace=True)

    report = tag(uri, [CaptionLength()])

    assert report.computed == 10
    assert lengths(uri) == {n: 1 if n < 10 else len(f"number {n}") for n in range(300)}
    assert tag(uri, [CaptionLength()]).bytes_read == 0


def test_what_is_staged_of_an_old_caption_is_not_committed(tmp_path: Path) -> None:
    uri = captioned(tmp_path)
    tag(uri, [CaptionLength()], settings=TagSettings(stage_only=True))
    lance.dataset(uri).update({"caption": "'x'"}, where="number < 10")

    report = tag(uri, [CaptionLength()])

    assert report.computed == 10
    assert lengths(uri) == {n: 1 if n < 10 else len(f"number {n}") for n in range(300)}


@pytest.mark.slow
def test_work_staged_beside_another_tagger_is_found_by_the_tagger_alone(tmp_path: Path) -> None:
    uri = captioned(tmp_path)
    tag(uri, [DigestLabel(), CaptionLength()], settings=TagSettings(stage_only=True, chunk_rows=40))

    report = tag(uri, [CaptionLength()])

    assert report.computed == 0
    assert lengths(uri) == {n: len(f"number {n}") for n in range(300)}


def test_a_tagger_of_text_needs_no_image(tmp_path: Path) -> None:
    uri = str(tmp_path)
    lance.write_dataset(pa.table({"number": range(100), "txt": [f"number {n}" for n in range(100)]}), uri)

    report = tag(uri, [CaptionLength(reads=("caption",))], settings=TagSettings(inputs={"caption": "txt"}))

    assert (report.computed, report.failed) == (100, 0)
    assert lengths(uri) == {n: len(f"number {n}") for n in range(100)}


def test_column_and_input_say_which_is_for_what(tmp_path: Path) -> None:
    uri = captioned(tmp_path)

    with pytest.raises(WrongUsage, match="--column is jpg, but no tagger of this run reads an image"):
        tag(uri, [CaptionLength(reads=("caption",))], settings=TagSettings(column="jpg"))
    with pytest.raises(WrongUsage, match="give it with --column"):
        tag(uri, [CaptionLength()], settings=TagSettings(inputs={"bytes": "jpg"}))
    with pytest.raises(ColumnError, match=r"there is no column 'alt'.*--input alt=COLUMN names"):
        tag(uri, [CaptionLength(reads=("alt",))])
    with pytest.raises(ColumnError, match="there is no column 'words'"):
        tag(uri, [CaptionLength()], settings=TagSettings(inputs={"caption": "words"}))
