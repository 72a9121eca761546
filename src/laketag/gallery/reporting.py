"""`report`: one page that holds everything it shows, to mail and to keep."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from laketag.errors import LaketagError
from laketag.gallery.costs import run_costs
from laketag.gallery.drawing import drawn, histogram
from laketag.gallery.strips import Album, Strip, strips
from laketag.lake import sql
from laketag.lake.browsing import View
from laketag.lake.explaining import explaining
from laketag.lake.history import versions
from laketag.lake.labels import is_digest, is_error, provenance
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.presence import KEY, URL
from laketag.lake.shapes import survey

_VERSIONS = 30
_REASONS = 12
_EXAMPLES = 5


@dataclass(frozen=True)
class ReportMade:
    """A page that was written."""

    uri: str
    version: int
    """The version that it is about."""
    file: str
    rows: int
    pictures: int
    """Pictures in it: a sample."""
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag report --json` prints it."""
        return asdict(self)


@explaining
def report(
    uri: str | PathLike[str],
    file: str | Path,
    *,
    at: int | str | None = None,
    column: str | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> ReportMade:
    """Write one page about a dataset's labels: distributions, pictures, errors, what made them, what it cost.

    Only a few hundred images are read, and the label columns. The page needs no network.

    Args:
        uri: the dataset's.
        file: an `.html` file; one that is there is replaced.
        at: a version's number, or its name; the latest where None.
        column: the one that holds the images, where it is not plain.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        DatasetError: there is no such version.
        ColumnError: it cannot be told which column holds the images.
        LaketagError: the file cannot be written.
    """
    started = time.monotonic()
    path = Path(file)
    if not path.parent.is_dir():
        raise LaketagError(f"{path} cannot be written, there is no folder {path.parent}; name another file")
    location = Location.of(uri, storage_options)
    require_links(location)
    view = View.of(location, at, column)
    album = Album(view)
    page = drawn("report.html", **_about(location, view), **_labels(view, album), album=album.filled())
    data = page.encode()
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise LaketagError(
            f"{path} cannot be written ({error.strerror or error}); name another file"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    seconds = time.monotonic() - started
    rows = view.dataset.count_rows()
    return ReportMade(location.uri, view.version, str(path), rows, album.pictures, len(data), seconds)


def _about(location: Location, view: View) -> dict[str, Any]:
    known = [
        each
        for each in versions(location.uri, storage_options=location.storage_options, limit=_VERSIONS).versions
        if each.version <= view.version
    ]
    return {
        "uri": location.uri,
        "name": location.uri.rpartition("/")[2],
        "version": view.version,
        "rows": view.dataset.count_rows(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": list(reversed(known)),
        "cost": run_costs(view, known),
    }


def _labels(view: View, album: Album) -> dict[str, Any]:
    labels = [each for each in survey(view) if each.scale.is_label and not each.scale.is_error]
    columns = [(histogram(shape), strips(view, shape, album)) for shape in labels]
    digests = {each.name for each in view.schema if is_digest(each)}
    errors = [each.name for each in view.schema if is_error(each)]
    made_by = {name: facts for name, facts in provenance(view.schema).items() if name not in digests}
    shown = {*errors, *(each.scale.column for each in labels)}
    return {
        "columns": columns,
        "uncounted": [(n, str(view.schema.field(n).type)) for n in made_by if n not in shown],
        "taggers": [_tagger(view, name) for name in errors],
        "reasons": [found for name in errors for found in _reasons(view, name, album)],
        "makers": _makers(made_by),
    }


def _tagger(view: View, error: str) -> dict[str, Any]:
    """Count the rows that a tagger labelled, could not label, and has not seen."""
    digest = error.removesuffix("_ERROR") + "_DIGEST"
    failed = view.dataset.count_rows(filter=f"{sql.quote(error)} is not null")
    missing = 0
    if digest in view.schema.names:
        missing = view.dataset.count_rows(filter=f"{sql.quote(digest)} is null")
    labelled = view.dataset.count_rows() - failed - missing
    name = error.removesuffix("_ERROR").lower()
    return {"name": name, "labelled": labelled, "failed": failed, "missing": missing}


@dataclass(frozen=True)
class _Reason:
    column: str
    text: str
    rows: int
    strip: Strip


def _reasons(view: View, column: str, album: Album) -> list[_Reason]:
    """Count the reasons of a tagger, the most frequent first, each with some rows that it holds for."""
    there = f"{sql.name(column)} is not null"
    counted = view.values([column], there)[column].value_counts().to_pylist()
    counted.sort(key=lambda each: (-each["counts"], each["values"]))
    names = [name for name in (KEY, URL) if name in view.schema.names]
    found = []
    for each in counted[:_REASONS]:
        where = f"{sql.name(column)} = {sql.literal(each['values'])}"
        ids = view.choose(where, first=_EXAMPLES).ids
        rows = view.rows(ids, names)
        said = [" · ".join(str(value) for value in (row or {}).values()) for row in rows]
        strip = Strip("", each["counts"], album.ask_for(ids, said))
        found.append(_Reason(column, each["values"], each["counts"], strip))
    return found


def _makers(made_by: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Put columns that were made alike together."""
    groups: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, facts in made_by.items():
        groups.setdefault(tuple(sorted(facts.items())), []).append(name)
    return [
        {
            "columns": names,
            "tagger": dict(facts).get("tagger", "?"),
            "facts": [
                (key, value) for key, value in facts if key != "tagger" and not key.startswith("version.")
            ],
            "versions": [
                (key.removeprefix("version."), value) for key, value in facts if key.startswith("version.")
            ],
        }
        for facts, names in groups.items()
    ]
