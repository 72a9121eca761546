"""What a run of `tag` tells in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from laketag.tagging.speed import Speed


@dataclass(frozen=True)
class Estimate:
    """What a run would take, from a sample of its rows."""

    rows: int
    """Rows to compute, of a slice about its share; those that a broken run staged are not counted."""
    bytes: int
    """Of what the taggers read of them."""
    tasks: int
    workers: int
    """That have something to do."""
    seconds: float
    """From the first row to the last, and once to load the models."""
    rows_per_second: float
    """Of all workers together."""
    cost: float | None
    """At the price per hour that was given."""
    sampled: int
    """Rows of the sample."""
    sampled_failed: int
    """Those of them that a tagger failed on."""
    speed: Speed | None
    """Where the sample's time went."""


OTHERS = "other reasons"
"""Stands for the less frequent reasons where there are very many: a reason may hold what is of one row."""
_MOST_REASONS = 1000


def count_reasons(counts: Counter[tuple[str, str]], more: Mapping[tuple[str, str], int]) -> None:
    """Add rows that failed, by tagger and reason; what is kept does not grow with the rows."""
    counts.update(more)
    if len(counts) > 2 * _MOST_REASONS:
        for (tagger, reason), rows in counts.most_common()[_MOST_REASONS:]:
            del counts[tagger, reason]
            counts[tagger, OTHERS] += rows


@dataclass(frozen=True)
class ErrorCount:
    """One reason for failed rows."""

    tagger: str
    reason: str
    rows: int


@dataclass(frozen=True)
class TagReport:
    """What a run of `tag` did. Counts are of rows, not of rows times taggers.

    With `commit_every`, a row whose labels of several taggers come by several commits counts in each of them.
    """

    uri: str
    jobs: tuple[str, ...]
    """The digest of each tagger's job."""
    version_before: int
    version_after: int
    """Equal to `version_before` where there was nothing to do."""
    version_reserved: int | None
    """The version that made the columns, empty, where that could not be one commit; None where it was."""
    rows: int
    """Rows that `where` and `limit` select."""
    computed: int
    """Rows that a tagger was run on in this command, failed ones included."""
    skipped: int
    """Selected rows that had all labels before, committed or staged."""
    staged: int
    """Rows that were staged before, and that this command committed."""
    failed: int
    """Rows with a reason in an error column after this command, among those that it committed."""
    columns: tuple[str, ...]
    """The columns of the run's taggers."""
    errors: tuple[ErrorCount, ...]
    """Reasons of the rows that failed, the most frequent first; of very many the rest is `other reasons`."""
    bytes_read: int
    """From the dataset; what was read from `tars` is not counted."""
    tars: int
    """Tars that images were read from: rows point into them (`import --link`)."""
    bytes_written: int
    """Staged and committed files; manifests are not counted."""
    seconds: float
    rows_per_second: float
    speed: Speed | None = None
    """Where the workers' time went; None where nothing was computed."""
    estimate: Estimate | None = None
    """Of a dry run: what the run would take; None where there is nothing to do, or to reckon from."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag tag --json` prints it."""
        return asdict(self)
