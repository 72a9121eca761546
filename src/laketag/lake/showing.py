"""`show`: what a dataset holds, and what made each of its label columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

from laketag.lake import sql
from laketag.lake.dataset import fragments_of, is_image_like, open_dataset
from laketag.lake.explaining import explaining
from laketag.lake.labels import provenance
from laketag.lake.location import Location
from laketag.lake.session import session_of
from laketag.lake.staged import LABEL_FILES, ROOT, StagedFiles


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
    tagger: str | None = None
    """The tagger's name; None where the staged files went away meanwhile."""


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


@explaining
def show(
    uri: str | PathLike[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    at: int | str | None = None,
) -> ShowReport:
    """Describe a dataset: schema, nulls, provenance, staged jobs. It reads no image.

    Args:
        uri: the dataset's.
        storage_options: for the dataset's store, as Lance takes them.
        at: a version's number, or its name; the latest where None. Staged jobs are those of now.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: there is no such version.
    """
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location, at)
    columns = []
    made_by = provenance(dataset.schema)
    for field in dataset.schema:
        is_counted = not is_image_like(field)
        nulls = dataset.count_rows(filter=f"{sql.quote(field.name)} is null") if is_counted else None
        columns.append(ColumnShown(field.name, str(field.type), nulls, made_by.get(field.name)))
    return ShowReport(
        location.uri,
        dataset.version,
        dataset.count_rows(),
        len(fragments_of(dataset)),
        tuple(columns),
        _staged_jobs(location),
    )


def _staged_jobs(location: Location) -> tuple[JobShown, ...]:
    rows: dict[str, int] = {}
    last: dict[str, str] = {}
    for name in StagedFiles(location, "").names():
        *folders, file = name.split("/")
        if LABEL_FILES in folders:
            job = folders[0]
            rows[job] = rows.get(job, 0) + int(file.split(".")[1])
            last[job] = name
    return tuple(JobShown(job, count, _tagger(location, last[job])) for job, count in sorted(rows.items()))


def _tagger(location: Location, name: str) -> str | None:
    """Tell the tagger from the columns in a staged file's footer: each has an error and a digest column."""
    try:
        columns = session_of(location).open_reader(f"{ROOT}/{name}").metadata().schema.names
    except (OSError, ValueError):  # committed and deleted since it was listed
        return None
    names = [column.removesuffix("_ERROR") for column in columns if column.endswith("_ERROR")]
    return next((each.lower() for each in names if f"{each}_DIGEST" in columns), None)
