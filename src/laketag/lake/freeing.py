"""Freeing what no version needs: old versions, files that no version refers to, bytes of deleted rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from laketag.errors import CommitError
from laketag.lake import objects
from laketag.lake.dataset import fragments_of, open_dataset
from laketag.lake.explaining import first_line
from laketag.lake.location import Location
from laketag.lake.probing import require_put_if_absent
from laketag.lake.staged import ROOT

# Stores that are known to tell when an object was written.
_DATED = ("s3", "s3a")


@dataclass(frozen=True)
class Freed:
    """What was deleted, or would be."""

    versions: int
    files: int
    """Data, deletion, index and transaction files."""
    bytes: int


def free_versions(location: Location, older_than: timedelta, *, yes: bool) -> Freed:
    """Delete old versions with the files that only they have, and orphans that are at least 7 days old.

    The latest version stays, and all that have a name; younger orphans may be another program's work.

    Args:
        location: the dataset's.
        older_than: the age from which a version is old.
        yes: delete; else only say what would be.
    """
    dataset = open_dataset(location)
    options: dict[str, Any] = {"older_than": older_than, "error_if_tagged_old_versions": False}
    stats: Any
    try:
        if yes:
            stats = dataset.cleanup_old_versions(**options)
        else:
            stats = dataset.explain_cleanup_old_versions(**options).stats
    except (OSError, ValueError) as error:
        raise CommitError(f"old versions of {location.uri} cannot be deleted: {first_line(error)}") from error
    files = (
        stats.data_files_removed
        + stats.transaction_files_removed
        + stats.index_files_removed
        + stats.deletion_files_removed
    )
    return Freed(int(stats.old_versions), int(files), int(stats.bytes_removed))


def compact_fragments(location: Location, *, yes: bool) -> int:
    """Write fragments again that are small or have deleted rows; returns how many are, or would be.

    The largest fragment sets the size: whole fragments of images are left as they are.
    """
    from lance.optimize import Compaction

    dataset = open_dataset(location)
    sizes = [each.num_rows for each in fragments_of(dataset)]
    options: Any = {"target_rows_per_fragment": max(sizes, default=1)}
    planned = Compaction.plan(dataset, options)
    fragments = sum(len(task.fragments) for task in planned.tasks)
    if yes and fragments:
        require_put_if_absent(location)
        try:
            Compaction.execute(dataset, options)
        except (OSError, ValueError) as error:
            raise CommitError(
                f"{location.uri} cannot be compacted: {first_line(error)}; run the same command again"
            ) from error
    return fragments


def staged_age(location: Location, names: list[str]) -> float | None:
    """Give the seconds since the youngest of some staged files was written; None where the store hides it."""
    if location.scheme in _DATED:
        folder = f"{location.uri}/{ROOT}/{names[0].partition('/')[0]}"
        found = objects.list_objects(Location(folder, location.storage_options))
        return time.time() - max((each.modified / 1e9 for each in found), default=0.0)
    if not location.is_local:
        return None
    written = []
    for name in names:
        try:
            written.append((Path(location.uri) / ROOT / name).stat().st_mtime)
        except FileNotFoundError:
            # A run that goes on right now tidies up after itself.
            return 0.0
    return time.time() - max(written, default=0.0)
