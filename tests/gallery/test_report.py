from __future__ import annotations

import random
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import laketag
from galleries import EVIL_CAPTION, ROWS


class Outline(HTMLParser):
    """What a page loads and runs, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what it is and what it loads."""
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset")]


@pytest.fixture(scope="module")
def text(photos: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "labels.html"
    laketag.report(photos, file)
    return file.read_text()


def test_the_page_holds_all_that_it_shows(text: str) -> None:
    outline = Outline(text)

    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert outline.loaded
    assert all(each.startswith("data:image/webp;base64,") for each in outline.loaded)
    assert not re.search(r"(?:url\(|@import|https?://(?!www\.w3\.org))", text)


def test_every_label_column_is_drawn_with_pictures_of_its_buckets(text: str) -> None:
    drawn = re.findall(r'<section id="c\d+"><h2><code>(\w+)</code></h2>(.*?)</section>', text, re.S)

    assert [name for name, _ in drawn] == [
        *("IMAGE_WIDTH", "IMAGE_HEIGHT", "SHARPNESS", "BRIGHTNESS", "CONTRAST", "COLORFULNESS")
    ]
    for _, section in drawn:
        assert '<svg class="bars"' in section
        assert "Highest" in section
        assert "Lowest" in section
        assert "data:image/webp" in section
    assert re.search(r"<code>DHASH</code>", text)


def test_a_picture_says_whose_it_is(text: str, photos: str) -> None:
    keys = set(lance.dataset(photos).to_table(columns=["__key__"])["__key__"].to_pylist())
    names = re.findall(r'<img src="data:[^"]+" alt="([^"]+)" title="([^"]+)">', text)

    assert names
    assert all(alt == title and unescape(alt) in keys for alt, title in names)


def test_the_shares_of_the_buckets_are_those_of_the_rows(text: str) -> None:
    [section] = re.findall(r"<code>SHARPNESS</code></h2>(.*?)</section>", text, re.S)
    rows = [int(number) for number in re.findall(r"%, ([\d,]+)</span></h3>", section)]

    assert sum(rows) == ROWS - 1


def test_errors_are_counted_with_an_example_and_nothing_is_markup(text: str) -> None:
    [section] = re.findall(r'<section id="errors">(.*?)</section>', text, re.S)

    assert "not an image" in section
    assert "1 row" in section
    assert "photo0004" in section
    assert EVIL_CAPTION not in text


def test_what_made_the_labels_and_what_it_cost_is_told(text: str) -> None:
    words = unescape(re.sub(r"<[^>]+>", " ", text))

    assert "laketag/quality" in words
    assert re.search(r"what rewriting the tars would have", words)
    assert re.search(r"2\s+quality\s+150\s+[\d.]+ \w+", words)


@pytest.mark.slow
def test_a_report_is_the_same_again(photos: str, tmp_path: Path) -> None:
    laketag.report(photos, tmp_path / "one.html")
    laketag.report(photos, tmp_path / "two.html")
    one, two = (
        re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "", (tmp_path / name).read_text())
        for name in ("one.html", "two.html")
    )

    assert one == two


def test_what_is_not_drawn_is_named(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5] * 4, pa.float32()), 2)
    made_by = {"laketag": '{"tagger": "mine"}'}
    schema = pa.schema([pa.field("VECTOR", vectors.type, metadata=made_by), ("jpg", pa.binary())])
    lance.write_dataset(pa.table([vectors, pa.array([b"a", b"b"])], schema=schema), uri)

    laketag.report(uri, tmp_path / "page.html")

    [section] = re.findall(
        r"<h2>Labels that are not drawn</h2>(.*?)</section>", (tmp_path / "page.html").read_text()
    )
    assert "<code>VECTOR</code>" in section


def test_an_earlier_version_and_a_dataset_without_labels_have_a_report(photos: str, tmp_path: Path) -> None:
    made = laketag.report(photos, tmp_path / "first.html", at=1)

    assert (made.version, made.rows) == (1, ROWS)
    assert "No tagger has run" in (tmp_path / "first.html").read_text()


def test_a_page_that_cannot_be_written_is_one_line(photos: str, tmp_path: Path) -> None:
    with pytest.raises(laketag.LaketagError, match=r"missing.*cannot be written.*another file"):
        laketag.report(photos, tmp_path / "missing" / "labels.html")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells what a process read")
def test_a_report_reads_a_sample_of_the_images(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    rows, size = 2000, 20_000
    images = pa.array([random.Random(number).randbytes(size) for number in range(rows)], pa.large_binary())
    lance.write_dataset(pa.table({"jpg": images, "number": range(rows)}), uri)
    laketag.add_column(uri, "SCORE", "number * 1.5")

    before = bytes_read()
    laketag.report(uri, tmp_path / "page.html")

    assert bytes_read() - before < rows * size / 5


def bytes_read() -> int:
    return int(re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]
