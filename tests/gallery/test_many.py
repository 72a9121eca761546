"""The gallery on a million rows. How long each page takes is in benchmarks/, not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pages
import pytest
from playwright.sync_api import expect

import laketag
from galleries import served, shot

pytestmark = pytest.mark.slow

ROWS = 1_000_000


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("many") / "many.lance")
    pages.make(uri, ROWS)
    return uri


def test_every_page_of_a_million_rows_is_answered(million: str) -> None:
    found = pages.page_seconds(million)

    assert set(pages.PAGES) < set(found)


def test_a_report_on_a_million_rows_fits_a_mail(million: str, tmp_path: Path) -> None:
    made = laketag.report(million, tmp_path / "many.html")

    assert made.rows == ROWS
    assert made.bytes < 10_000_000


def test_a_browser_filters_sorts_and_pages_a_million_rows(chromium: Any, million: str) -> None:
    with served(million) as address:
        page = chromium.new_page(base_url=address, viewport={"width": 1360, "height": 850})
        page.goto("/")
        expect(page.locator(".sum strong")).to_have_text("1,000,000")
        page.get_by_label("very aesthetic").check()
        expect(page.locator(".sum strong")).not_to_have_text("1,000,000")
        page.select_option("#sort", "AESTHETIC_SCORE")
        expect(page.locator(".card .said").nth(1)).to_have_text("very aesthetic")
        page.locator(".card").last.scroll_into_view_if_needed()
        expect(page.locator(".card")).to_have_count(120)
        marks = page.locator(".mark", has_text="AESTHETIC_SCORE").locator(".said")
        scores = [float(text) for text in marks.all_inner_texts()]
        shot(page, "million")
        page.close()

    assert len(scores) == 120
    assert scores == sorted(scores)
    assert scores[0] >= 7.1
