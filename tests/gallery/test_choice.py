from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import lance
import pyarrow as pa
import pytest

from laketag.errors import LaketagError
from laketag.gallery.cached import CachedDataset
from laketag.gallery.choice import Choice
from laketag.lake.location import Location

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


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("name", ["x", "a b"])
def test_no_bound_chooses_what_is_no_number(tmp_path: Path, name: str, kind: pa.DataType) -> None:
    values = pa.array([0.0, 1.0, 2.0, math.nan, None], pa.float64()).cast(kind)
    lance.write_dataset(pa.table({name: values, "n": range(5)}), str(tmp_path))
    shown = CachedDataset(Location.of(str(tmp_path)), None)

    for pair, rows in (("min", "1"), 2), (("max", "1"), 2):
        choice = Choice.of([(f"{pair[0]}.{name}", pair[1])])
        assert (shown.chosen(choice).total, shown.shapes(choice)[0].nulls) == (rows, 0)
    both = Choice.of([(f"min.{name}", "1"), (f"max.{name}", "1"), ("min.n", "0")])
    assert "isnan" not in str(shown.filter(both))  # the upper bound says it


def test_a_filter_alone_stays_as_it_was_typed() -> None:
    assert Choice.of([("where", " a = 1 or b = 2 ")]).filter([]) == "a = 1 or b = 2"


@pytest.mark.parametrize("pair", [("at", "two"), ("min.a", "nan"), ("max.a", "1 or 1=1"), ("at", "-1")])
def test_what_is_no_number_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(LaketagError, match="not a number"):
        Choice.of([pair])


def test_the_tag_of_a_number_must_be_one() -> None:
    with pytest.raises(LaketagError, match="not a number"):
        Choice.of([("tag.width", "1) or (1=1")]).filter([])
