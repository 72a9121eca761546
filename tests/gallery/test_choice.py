from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from laketag.errors import LaketagError
from laketag.gallery.choice import Choice

PAIRS = [
    ("at", "3"),
    ("where", "width > 512 or txt like '%''s'"),
    ("sort", "SHARPNESS desc"),
    ("min.SHARPNESS", "0.1"),
    ("max.SHARPNESS", "7.5"),
    ("tag.kind", "it's"),
    ("tag.kind", "odd"),
    ("tag.kind", ""),
]


def test_a_choice_is_one_filter_in_sql() -> None:
    found = Choice.of(PAIRS).filter(["kind"])

    assert found == (
        "(width > 512 or txt like '%''s') and SHARPNESS >= 0.1 and SHARPNESS <= 7.5"
        " and (kind in ('it''s', 'odd') or kind is null)"
    )


def test_a_whole_number_has_all_its_digits() -> None:
    choice = Choice.of([("min.seen", "1.7e12"), ("max.seen", "1700000000001"), ("max.share", "3e-1")])

    assert choice.filter([]) == "seen >= 1700000000000 and seen <= 1700000000001 and share <= 0.3"
    assert "max.seen=1700000000001" in choice.address()


def test_an_address_leads_back_to_its_choice() -> None:
    choice = Choice.of(PAIRS)

    assert Choice.of(parse_qsl(urlsplit(choice.address("/")).query, keep_blank_values=True)) == choice


def test_a_column_that_is_no_plain_word_is_quoted() -> None:
    assert (
        Choice.of([("min.a b", "1"), ("tag.order", "x")]).filter(["order"])
        == '"a b" >= 1 and "order" = \'x\''
    )


def test_a_filter_alone_stays_as_it_was_typed() -> None:
    assert Choice.of([("where", " a = 1 or b = 2 ")]).filter([]) == "a = 1 or b = 2"


@pytest.mark.parametrize("pair", [("at", "two"), ("min.a", "nan"), ("max.a", "1 or 1=1"), ("at", "-1")])
def test_what_is_no_number_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(LaketagError, match="not a number"):
        Choice.of([pair])


def test_the_tag_of_a_number_must_be_one() -> None:
    with pytest.raises(LaketagError, match="not a number"):
        Choice.of([("tag.width", "1) or (1=1")]).filter([])
