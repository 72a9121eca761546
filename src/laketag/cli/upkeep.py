"""`laketag index` and `clean`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from laketag.cli import text
from laketag.cli.options import Json, StorageOptions, Uri, store_options
from laketag.cli.printing import print_json, tell
from laketag.errors import WrongUsage

if TYPE_CHECKING:
    import laketag

_Column = Annotated[str, typer.Argument(metavar="COLUMN", help="The column; exact-case.")]
_Kind = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="btree, bitmap, text, list or vector; by the column's values where not given."
    ),
]
_OlderThan = Annotated[
    str, typer.Option(metavar="AGE", help="How old is old: 14d, 12h, 30m; 0 takes all that nothing works on.")
]
_Yes = Annotated[bool, typer.Option("--yes", help="Delete; else it only says what it would delete.")]
_Compact = Annotated[
    bool,
    typer.Option("--compact", help="First write small and half-deleted fragments again, with their images."),
]
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_NEVER = timedelta(days=365_000)
"""An age that no version has, and that can be taken from any date."""


def index(
    uri: Uri,
    column: _Column,
    kind: _Kind = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Build an index on a column, or bring it up to date.

    The same command again takes in the rows that came since.
    """
    import laketag

    report = laketag.index(uri, column, kind, storage_options=store_options(uri, storage_option))
    if as_json:
        print_json(report.to_json())
        return
    typer.echo(f"{report.uri}: version {report.version}")
    typer.echo(
        f"{report.kind} index on {report.column}: {text.count(report.rows, 'row')}, "
        f"{text.size(report.bytes)}, {text.duration(report.seconds)}"
    )


def clean(
    uri: Uri,
    older_than: _OlderThan = "14d",
    yes: _Yes = False,
    compact: _Compact = False,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Delete old staged work, old versions and orphan files. It only says so unless --yes is given.

    Versions with a name and all that a running job needs are kept; orphans stay for 7 days.
    """
    import laketag

    report = laketag.clean(
        uri,
        older_than=_age(older_than),
        yes=yes,
        compact=compact,
        storage_options=store_options(uri, storage_option),
    )
    if as_json:
        print_json(report.to_json())
        return
    tell(_told(report))


def _age(given: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,9})([dhms]?)", given)
    if match is None or (not match[2] and int(match[1])):
        raise WrongUsage(
            f"--older-than {given} is no age; give a number with its unit, as 14d, 12h or 30m, or 0"
        )
    return min(timedelta(**{_UNITS[match[2] or "s"]: int(match[1])}), _NEVER)


def _told(report: laketag.CleanReport) -> list[str]:
    did = "deleted" if report.deleted else "would delete"
    lines = [f"{report.uri}: version {report.version}"]
    lines += [
        f"{did}  {text.count(one.files, 'staged file')} of {text.cut(one.job, 20)}" for one in report.staged
    ]
    lines += [f"{did}  the Lance tag {pin} of a run that died" for pin in report.pins]
    lines.append(
        f"{did}  {text.count(report.versions, 'old version')}, {text.count(report.files, 'file')}, "
        f"{text.size(report.bytes)}"
    )
    if report.uploads:
        verb = "aborted" if report.deleted else "would abort"
        lines.append(f"{verb}  {text.count(report.uploads, 'multipart upload')} of killed writers")
    if report.compacted:
        verb = "wrote" if report.deleted else "would write"
        lines.append(f"{verb}  {text.count(report.compacted, 'fragment')} again")
    lines += [f"kept  {text.cut(one.name, 20)}: {one.reason}" for one in report.kept]
    return lines if report.deleted else [*lines, "nothing was deleted; the same command with --yes does it"]
