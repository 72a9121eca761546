"""The gallery without a mouse, and without a look at it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from galleries import ROWS, settled, total, wait_for_total

pytestmark = pytest.mark.slow


def test_a_slider_is_moved_by_keys_and_keeps_the_focus(page: Any) -> None:
    page.goto("/")
    low = page.get_by_label("width at least", exact=True)
    low.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        settled(page)
    bound = float(low.input_value())

    assert bound > 0
    assert total(page) == str(sum(number * 10 >= bound for number in range(ROWS)))
    assert page.evaluate("document.activeElement.name") == "min.width"


def test_a_key_leads_to_the_filter_from_a_slider_and_is_typed_in_a_field(page: Any) -> None:
    page.goto("/")
    page.get_by_label("SHARPNESS at least").focus()
    page.keyboard.press("/")
    page.keyboard.type("width / 10 > 148")
    page.keyboard.press("Enter")
    wait_for_total(page, 1)

    assert page.locator("#where").input_value() == "width / 10 > 148"


def test_a_version_is_chosen_by_keys_and_loaded_when_it_is_applied(page: Any) -> None:
    page.goto("/")
    version = page.get_by_label("Version")
    version.focus()
    page.keyboard.press("ArrowDown")
    settled(page)
    chosen, has_focus = version.input_value(), page.evaluate("document.activeElement.id") == "at"
    page.get_by_role("button", name="Apply").press("Enter")
    page.wait_for_url("**/?*at=1*")

    assert (chosen, has_focus) == ("1", True)
    assert page.locator("[data-facet=SHARPNESS]").count() == 0


def test_two_versions_are_chosen_by_keys_and_compared_when_it_is_asked_for(page: Any) -> None:
    page.goto("/compare")
    column = page.get_by_label("Column")
    column.focus()
    before = column.input_value()
    page.keyboard.press("ArrowDown")
    settled(page)
    stayed = page.url.endswith("/compare") and page.evaluate("document.activeElement.id") == "column"
    page.get_by_role("button", name="Compare", exact=True).press("Enter")
    page.wait_for_url("**/compare?*")

    assert stayed
    assert column.input_value() != before


def test_how_many_rows_are_left_is_read_out(page: Any) -> None:
    page.goto("/")
    page.evaluate("window.ears = document.querySelector('[role=status]')")
    page.get_by_label("odd").check()
    wait_for_total(page, 75)
    settled(page)

    # Only what is written into a part that stays is read out.
    assert page.evaluate("window.ears.isConnected && window.ears.textContent") == f"75 of {ROWS} rows 50 %"


def test_the_sheet_with_the_command_is_opened_and_closed_by_keys(page: Any) -> None:
    page.goto("/")
    page.get_by_text("Export these rows").press("Enter")
    page.get_by_label("As WebDataset shards").focus()
    page.keyboard.press("Escape")

    assert page.get_by_label("As WebDataset shards").is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "Export these rows"


def test_more_pictures_take_over_the_focus(page: Any) -> None:
    page.goto("/")
    page.evaluate("document.querySelector('.onward a').focus()")
    expect(page.locator(".card")).to_have_count(120)

    assert page.evaluate("document.activeElement.closest('.card') === document.querySelectorAll('.card')[60]")


def test_every_field_and_picture_has_a_name(page: Any) -> None:
    page.goto("/")
    nameless = page.evaluate(
        """[...document.querySelectorAll('input, select, button, img, a, svg[role=img]')].filter(one =>
            !(one.labels?.length || one.getAttribute('aria-label') || one.alt || one.textContent.trim()))
            .map((one) => one.outerHTML)"""
    )

    assert nameless == []
