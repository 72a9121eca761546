"""`show`: what a dataset holds, and what made each of its label columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from laketag.lake import sql
from laketag.lake.dataset import is_image_like, open_dataset
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles

_LABELS = "labels"


@dataclass(frozen=True)
class ColumnShown:
    """One column."""

    name: str
    type: str
    nulls: int | None
    """Rows without a value; None for bytes, whose count would read them."""
    made_by: dict[str, str] | None
    """Provenance of a label column."""


@dataclass(frozen=True)
class JobShown:
    """Work of a job that is staged and not committed."""

    job: str
    """The job's digest."""
    rows: int
    """Rows staged."""


@dataclass(frozen=True)
class ShowReport:
    """What a dataset holds."""

    uri: str
    version: int
    rows: int
    fragments: int
    columns: tuple[ColumnShown, ...]
    jobs: tuple[JobShown, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag show --json` prints it."""
        return asdict(self)


def show(
    uri: str, *, storage_options: Mapping[str, str] | None = None, version: int | None = None
) -> ShowReport:
    """Describe a dataset: schema, nulls, provenance, staged jobs. It reads no image.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: there is no such version.
    """
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location, version)
    columns = []
    for field in dataset.schema:
        is_counted = not is_image_like(field)
        nulls = dataset.count_rows(filter=f"{sql.quote(field.name)} is null") if is_counted else None
        made_by = (field.metadata or {}).get(b"laketag")
        columns.append(
            ColumnShown(field.name, str(field.type), nulls, json.loads(made_by) if made_by else None)
        )
    return ShowReport(
        location.uri,
        dataset.version,
        dataset.count_rows(),
        len(dataset.get_fragments()),
        tuple(columns),
        _staged_jobs(location),
    )


def _staged_jobs(location: Location) -> tuple[JobShown, ...]:
    rows: dict[str, int] = {}
    for name in StagedFiles(location, "").names():
        job, _, rest = name.partition("/")
        if rest.startswith(f"{_LABELS}/"):
            rows[job] = rows.get(job, 0) + int(rest.split(".")[1])
    return tuple(JobShown(job, count) for job, count in sorted(rows.items()))
