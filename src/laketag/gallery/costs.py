"""What labels cost: what tagging read and wrote, against what rewriting the tars would have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laketag.lake.browsing import View
from laketag.lake.history import VersionShown
from laketag.lake.labels import is_label
from laketag.lake.weighing import column_bytes


@dataclass(frozen=True)
class RunCost:
    """One run over the images, reckoned from the sizes of the columns as they are stored."""

    version: int
    taggers: str
    rows: int
    read: int
    """The images of these rows."""
    wrote: int
    """Labels, twice: staged, then as columns."""
    tars_read: int
    """Every shard, whole."""
    tars_wrote: int
    """Every shard again, whole, with the labels in it."""


def run_costs(view: View, versions: Sequence[VersionShown]) -> list[RunCost]:
    """List the runs whose columns are still there, the oldest first."""
    sizes = column_bytes(view.dataset)
    labels = {field.name for field in view.schema if is_label(field)}
    shards = sum(size for name, size in sizes.items() if name not in labels)
    images = sizes.get(view.image, 0) if view.image else 0
    found = []
    for each in versions:
        made = [name for name in each.made_by.get("columns", "").split(",") if name in labels]
        rows = each.made_by.get("rows", "")
        if not (made and "taggers" in each.made_by and rows.isdecimal() and int(rows)):
            continue
        part = min(1.0, int(rows) / max(1, each.rows))
        written = round(part * sum(sizes[name] for name in made))
        found.append(
            RunCost(
                each.version,
                each.made_by["taggers"],
                int(rows),
                round(part * images),
                2 * written,
                shards,
                shards + written,
            )
        )
    return found
