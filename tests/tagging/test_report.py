"""What a report keeps does not grow with the rows."""

from __future__ import annotations

from collections import Counter

from laketag.tagging.report import OTHERS, count_reasons


def test_of_very_many_reasons_the_frequent_ones_are_kept_and_no_row_is_lost() -> None:
    counts: Counter[tuple[str, str]] = Counter()
    for row in range(10_000):
        count_reasons(counts, {("nsfw", f"row {row} is odd"): 1, ("nsfw", "truncated"): 2})

    assert len(counts) <= 2001
    assert counts.total() == 30_000
    assert counts["nsfw", "truncated"] == 20_000
    assert counts["nsfw", OTHERS] > 7_000


def test_few_reasons_are_counted_one_by_one() -> None:
    counts = Counter({("nsfw", "truncated"): 1})
    count_reasons(counts, {("nsfw", "truncated"): 2, ("aesthetic", "truncated"): 1})

    assert counts == {("nsfw", "truncated"): 3, ("aesthetic", "truncated"): 1}
