"""The gallery as people use it: in a real Chromium."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

import laketag
from galleries import EVIL_CAPTION, EVIL_KEY, ROWS, keys, served, settled, shot, total, wait_for_total
from programs import environment, run

pytestmark = pytest.mark.slow


def test_a_filter_by_sql_leaves_its_rows(page: Any) -> None:
    page.goto("/")
    page.fill("#where", "width < 100 and kind = 'even'")
    page.press("#where", "Enter")
    wait_for_total(page, 5)

    assert keys(page) == [f"photo{number:04d}" for number in (0, 2, 4, 6, 8)]
    assert "where=" in page.url


def test_a_tag_leaves_its_rows_and_the_histograms_follow(page: Any) -> None:
    page.goto("/")
    before = page.locator("[data-facet=width] svg").get_attribute("aria-label")
    page.get_by_label("odd").check()
    wait_for_total(page, 75)
    after = page.locator("[data-facet=width] svg").get_attribute("aria-label")

    assert before == f"width: {ROWS} rows from 0 to 1,490, mean 745"
    assert after == "width: 75 rows from 10 to 1,490, mean 750"
    assert page.get_by_label("odd").is_checked()
    assert page.url.partition("?")[2] == "tag.kind=odd&at=2"


def test_rows_are_put_in_order(page: Any) -> None:
    page.goto("/")
    page.select_option("#sort", "width desc")
    expect(page.locator("#grid .key").first).to_have_text("photo0149")

    assert keys(page)[:3] == ["photo0149", "photo0148", "photo0147"]


def test_scrolling_brings_every_row_once(page: Any) -> None:
    page.goto("/?sort=width")
    while page.locator(".card").count() < ROWS:
        count = page.locator(".card").count()
        page.locator(".card").last.scroll_into_view_if_needed()
        expect(page.locator(".card")).not_to_have_count(count)

    assert keys(page) == [f"photo{n:04d}" if n != 3 else EVIL_KEY for n in range(ROWS)]
    assert page.locator(".onward").count() == 0


def test_where_more_pictures_do_not_come_the_link_to_them_stays(chromium: Any, address: str) -> None:
    context = chromium.new_context(base_url=address)
    opened = context.new_page()
    opened.route("**/more?*", lambda route: route.fulfill(status=503, body="not now"))
    with opened.expect_response("**/more?*"):
        opened.goto("/")
        opened.locator(".card").last.scroll_into_view_if_needed()
    opened.wait_for_load_state("networkidle")

    expect(opened.locator(".onward a")).to_have_count(1)
    context.close()


def test_an_image_opens_and_arrows_walk_on(page: Any) -> None:
    page.goto("/?sort=width&tag.kind=odd")
    page.locator(".card a").first.click()
    page.wait_for_selector("h1")
    first = page.locator("h1").inner_text()
    width = page.locator("figure img").evaluate("image => image.decode().then(() => image.naturalWidth)")
    alike = page.locator("section.strip", has_text="Images like it").locator(".card")
    alike.first.wait_for()
    page.keyboard.press("ArrowRight")
    expect(page.locator("h1")).not_to_have_text("photo0001")
    second = page.locator("h1").inner_text()
    page.wait_for_load_state()  # before that, the page does not listen to keys
    page.keyboard.press("Escape")
    page.wait_for_selector("#grid")

    assert (first, width, second) == ("photo0001", 64, EVIL_KEY)
    assert total(page) == "75"


def test_bad_sql_is_said_and_mended(page: Any) -> None:
    page.goto("/")
    page.fill("#where", "wdith >")
    page.press("#where", "Enter")
    page.wait_for_selector("[role=alert]")
    said = page.locator("[role=alert]").inner_text()
    columns = page.locator(".names code").all_inner_texts()
    marked = page.locator("#where").get_attribute("aria-invalid")
    page.fill("#where", "width > 1480")
    page.press("#where", "Enter")
    wait_for_total(page, 1)

    assert said == "the filter 'wdith >' cannot be run: Expected: an expression, found the end"
    assert "width" in columns
    assert "QUALITY_DIGEST" not in columns
    assert marked == "true"
    assert page.locator("[role=alert]").count() == 0
    assert page.locator("#where").get_attribute("aria-invalid") is None


def test_a_caption_that_is_a_script_is_read_and_never_run(page: Any) -> None:
    page.goto("/row/3")
    page.locator("section.strip .card").first.wait_for()
    shown = page.locator("figcaption").inner_text()
    page.goto("/")
    settled(page)

    assert shown == EVIL_CAPTION
    assert page.locator(f'img[alt="{EVIL_CAPTION}"]').count() == 1
    assert page.evaluate("window.evil") is None


def test_a_key_with_dots_leads_nowhere_else(page: Any) -> None:
    page.goto("/?where=width+%3D+30")
    page.get_by_role("link", name=EVIL_KEY).click()
    page.wait_for_selector("h1")

    assert page.locator("h1").inner_text() == EVIL_KEY
    assert "/row/3?" in page.url


def test_a_new_column_is_said_to_be_new(page: Any) -> None:
    page.goto("/compare?column=SHARPNESS")
    page.wait_for_selector("main h1", state="attached")
    said = page.locator("main").inner_text()

    assert "There is no SHARPNESS in this version." in said
    assert "Rows whose value changed" not in said
    assert "QUALITY_DIGEST" not in said


def test_the_choice_survives_reload_and_the_way_back(page: Any) -> None:
    page.goto("/")
    page.get_by_label("odd").check()
    wait_for_total(page, 75)
    page.reload()
    after_reload = total(page)
    page.go_back()
    wait_for_total(page, ROWS)

    assert after_reload == "75"
    assert not page.get_by_label("odd").is_checked()


def test_the_selection_is_a_command_and_a_file_of_keys(page: Any) -> None:
    page.goto("/?where=width+%3C+20")
    page.get_by_text("Export these rows").click()
    command = page.locator("#command").input_value()
    with page.expect_download() as loading:
        page.get_by_role("link", name="keys.txt").click()

    assert command.endswith("--where 'width < 20'")
    assert Path(loading.value.path()).read_text() == "photo0000\nphoto0001\n"


def test_it_works_without_scripts(chromium: Any, address: str) -> None:
    context = chromium.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("odd").check()
    page.fill("#where", "width > 0")
    page.get_by_role("button", name="Apply").click()
    wait_for_total(page, 75)
    page.get_by_role("link", name="More pictures").click()
    expect(page.locator(".card")).to_have_count(15)
    shown = keys(page)
    context.close()

    assert shown[-1] == "photo0149"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 390])
def test_no_page_is_wider_than_its_window(chromium: Any, address: str, width: int, scheme: Any) -> None:
    context = chromium.new_context(
        base_url=address, viewport={"width": width, "height": 850}, color_scheme=scheme
    )
    page = context.new_page()
    wide = []
    for name, path in (("grid", "/"), ("row", "/row/3"), ("wrong", "/?where=("), ("compare", "/compare")):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        shot(page, f"{name}-{width}-{scheme}")
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(name)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    context.close()

    assert wide == []
    assert (background == "rgb(20, 23, 26)") == (scheme == "dark")


def test_on_a_phone_the_filters_are_behind_a_button(chromium: Any, address: str) -> None:
    context = chromium.new_context(base_url=address, viewport={"width": 390, "height": 850}, has_touch=True)
    page = context.new_page()
    page.goto("/")
    hidden = page.locator("#facets").is_hidden()
    page.get_by_role("button", name="Filters").tap()
    page.get_by_label("odd").tap()
    wait_for_total(page, 75)
    shot(page, "phone-filters")
    page.get_by_role("button", name="Done").tap()
    closed = page.locator("#facets").is_hidden()
    context.close()

    assert hidden
    assert closed


def test_on_a_narrow_phone_the_export_sheet_is_not_cut(chromium: Any, address: str) -> None:
    page = chromium.new_page(base_url=address, viewport={"width": 280, "height": 700})
    page.goto("/?tag.kind=odd")
    page.get_by_text("Export these rows").click()
    sheet = page.locator(".sheet").bounding_box()
    page.close()

    assert 0 <= sheet["x"] < sheet["x"] + sheet["width"] <= 280


def test_the_report_opens_from_a_file_without_a_network(chromium: Any, photos: str, tmp_path: Path) -> None:
    made = laketag.report(photos, tmp_path / "labels.html")
    context = chromium.new_context(offline=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text))
    page.goto(f"file://{made.file}")
    loaded = page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth)")
    evil = page.evaluate("window.evil")
    context.close()

    assert loaded
    assert evil is None
    assert wrong == []


def test_a_new_version_is_there_at_the_next_look(chromium: Any, photos: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "photos.lance")
    shutil.copytree(photos, uri)
    with served(uri) as address:
        page = chromium.new_page(base_url=address)
        page.goto("/")
        before = page.locator("[data-facet=HALF]").count()
        laketag.add_column(uri, "HALF", "width / 2")
        page.wait_for_timeout(1000)
        page.goto("/")
        after = page.locator("[data-facet=HALF]").count()
        page.close()

    assert (before, after) == (0, 1)


def test_the_program_serves_until_it_is_interrupted(photos: str) -> None:
    command = [sys.executable, "-m", "laketag", "serve", photos, "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as program:
        try:
            assert program.stdout is not None
            found = program.stdout.readline().strip()
            with urlopen(found) as answer:
                status = answer.status
        finally:
            program.terminate()
        _, told = program.communicate(timeout=20)

    assert found.startswith("http://127.0.0.1:")
    assert (status, program.returncode, told) == (200, 143, "laketag: the gallery has ended\n")


def test_the_report_says_what_it_is_in_json(photos: str, tmp_path: Path) -> None:
    done = run("report", photos, tmp_path / "l.html", "--json")

    told = json.loads(done.stdout)
    assert told["rows"] == ROWS
    assert told["bytes"] == (tmp_path / "l.html").stat().st_size
