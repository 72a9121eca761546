"""Names in SQL mean the column of exactly that name."""

from __future__ import annotations

import pytest

from laketag.lake.sql import for_filter, for_query

NAMES = ["AESTHETIC_SCORE", "width", "count", "desc", "odd name", "e5"]


@pytest.mark.parametrize(
    ("written", "filtered", "queried"),
    [
        ("AESTHETIC_SCORE > 5", "`AESTHETIC_SCORE` > 5", '"AESTHETIC_SCORE" > 5'),
        ('"AESTHETIC_SCORE" > 5', "`AESTHETIC_SCORE` > 5", '"AESTHETIC_SCORE" > 5'),
        ("`odd name` is null", "`odd name` is null", '"odd name" is null'),
        ("width = 'width'", "`width` = 'width'", "\"width\" = 'width'"),
        ("count(*) > count", "count(*) > `count`", 'count(*) > "count"'),
        ("caption = 'it''s width'", "caption = 'it''s width'", "caption = 'it''s width'"),
        ("width > 1e5", "`width` > 1e5", '"width" > 1e5'),
        ("order by width desc", "order by `width` desc", 'order by "width" desc'),
        ("-- isn't\nwidth = ''", "-- isn't\n`width` = ''", "-- isn't\n\"width\" = ''"),
        ("/* isn't */ width = ''", "/* isn't */ `width` = ''", "/* isn't */ \"width\" = ''"),
    ],
)
def test_columns_are_quoted_and_nothing_else(written: str, filtered: str, queried: str) -> None:
    assert for_filter(written, NAMES) == filtered
    assert for_query(written, NAMES) == queried
