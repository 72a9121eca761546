"""One's own taggers of every kind: image and text, text alone, a vector in and out, several columns."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import laketag
from here import tag
from laketag.errors import BadTagger
from laketag.tagging.settings import TagSettings

MODULE = """
import laketag
import numpy as np
import pyarrow as pa


@laketag.tagger(reads=("image", "caption"), columns={"DENSITY": pa.float32()})
def wordy(images, captions):
    return {"DENSITY": [len(c.split()) / image.width for image, c in zip(images, captions)]}


@laketag.tagger(reads="caption", columns={"WORDS": pa.int32(), "KIND": pa.string()}, failed={"KIND": "none"})
def words(captions):
    counts = [None if caption is None else len(caption.split()) for caption in captions]
    return {"WORDS": counts, "KIND": ["short" if (count or 0) < 3 else "long" for count in counts]}


@laketag.tagger(columns={"TINY": pa.list_(pa.float16(), 12)})
def tiny(images):
    small = np.stack([np.asarray(image.resize((2, 2)), np.float16).ravel() for image in images])
    return {"TINY": small / 255}


@laketag.tagger(reads="TINY", columns={"MEAN": pa.float32(), "IS_ARRAY": pa.bool_()})
def mean(vectors):
    return {
        "MEAN": [None if v is None else float(v.astype(np.float32).mean()) for v in vectors],
        "IS_ARRAY": [isinstance(v, np.ndarray) for v in vectors],
    }
"""
CAPTIONS = ["a red square", "green", None, "a picture that is broken"]
LEVELS = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "own_tags.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    images = []
    for level in LEVELS:
        buffer = io.BytesIO()
        Image.new("RGB", (10, 10), level).save(buffer, "PNG")
        images.append(buffer.getvalue())
    table = pa.table({"jpg": pa.array([*images, b"broken"], pa.binary()), "txt": CAPTIONS})
    lance.write_dataset(table, str(tmp_path / "d"), data_storage_version="2.2")
    yield str(tmp_path / "d")
    sys.modules.pop("own_tags", None)


def columns(uri: str, *names: str) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = lance.dataset(uri).to_table(columns=list(names)).to_pydict()
    return found


def test_a_tagger_over_image_and_text_gets_both(uri: str) -> None:
    tag(uri, ["own_tags:wordy"], settings=TagSettings(inputs={"caption": "txt"}))

    found = columns(uri, "DENSITY", "WORDY_ERROR")
    assert found["DENSITY"] == pytest.approx([0.3, 0.1, None, None])
    assert "AttributeError" in found["WORDY_ERROR"][2]
    assert found["WORDY_ERROR"][3] == "not an image"


def test_a_tagger_over_text_alone_reads_no_image_and_adds_several_columns(uri: str) -> None:
    report = tag(uri, ["own_tags:words"], settings=TagSettings(inputs={"caption": "txt"}))

    found = columns(uri, "WORDS", "KIND", "WORDS_ERROR")
    assert found["WORDS"] == [3, 1, None, 5]
    assert found["KIND"] == ["long", "short", "none", "long"]
    assert found["WORDS_ERROR"] == [None, None, "the tagger returned null for WORDS", None]
    assert report.failed == 1


def test_a_tagger_returns_a_vector_and_another_reads_it_as_an_array(uri: str) -> None:
    tag(uri, ["own_tags:tiny"])
    tag(uri, ["own_tags:mean"])

    assert lance.dataset(uri).schema.field("TINY").type == pa.list_(pa.float16(), 12)
    found = columns(uri, "TINY", "MEAN", "IS_ARRAY")
    assert found["TINY"][3] is None
    assert np.array(found["TINY"][0]) == pytest.approx(np.tile(np.array(LEVELS[0]) / 255, 4), abs=1e-3)
    assert found["MEAN"] == pytest.approx([250 / 255 / 3] * 3 + [None], abs=1e-3)
    assert found["IS_ARRAY"] == [True, True, True, None]


def test_the_same_rows_have_no_labels_to_make_a_second_time(uri: str) -> None:
    tag(uri, ["own_tags:tiny"])
    tag(uri, ["own_tags:mean"])

    assert tag(uri, ["own_tags:mean"]).computed == 0


@pytest.mark.parametrize("failed", [{"OTHER": 1}, {"N": "many"}, 3])
def test_what_a_failed_row_cannot_hold_is_refused(failed: Any) -> None:
    with pytest.raises(BadTagger, match="failed is"):

        @laketag.tagger(columns={"N": pa.int32()}, failed=failed)
        def counted(images: list[Any]) -> dict[str, list[int]]:
            return {"N": [1] * len(images)}


def test_labels_of_vectors_go_along_with_rows_that_others_move(uri: str) -> None:
    tag(uri, ["own_tags:tiny"])
    tag(uri, ["own_tags:mean"], settings=TagSettings(stage_only=True))
    lance.dataset(uri).update({"txt": "'moved'"}, where="txt = 'green'")

    report = tag(uri, ["own_tags:mean"])

    assert report.computed == 0
    assert lance.dataset(uri).count_rows("MEAN_DIGEST is not null") == 4
