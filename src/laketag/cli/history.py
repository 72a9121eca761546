"""`laketag versions`, `restore` and `diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from laketag.cli import text
from laketag.cli.options import Json, StorageOptions, Uri, store_options
from laketag.cli.printing import plain, print_json, tell

if TYPE_CHECKING:
    import laketag

_Tag = Annotated[
    str | None, typer.Option(metavar="NAME", help="First give the latest version this name; clean keeps it.")
]
_Limit = Annotated[int | None, typer.Option(metavar="N", min=1, help="The latest N only.")]
_Version = Annotated[str, typer.Argument(metavar="VERSION", help="A version: its number or its name.")]
_Before = Annotated[str, typer.Argument(metavar="V1", help="A version: its number or its name.")]
_After = Annotated[str, typer.Argument(metavar="V2", help="A later one.")]

_NAMED = 20
"""So many lines of a from-to table are for people; --json has them all."""


def versions(
    uri: Uri,
    tag: _Tag = None,
    limit: _Limit = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """List the versions: when, by what, and what changed.

    Beside the rows, the columns that came (+), went (-) or got values (~).
    """
    import laketag

    options = store_options(uri, storage_option)
    report = laketag.versions(uri, tag=tag, limit=limit, storage_options=options)
    if as_json:
        print_json(report.to_json())
        return
    rows = [
        (
            str(each.version),
            each.timestamp[:19].replace("T", " "),
            each.operation,
            f"{each.rows:,}",
            _maker(each.made_by),
            _changes(each),
            ", ".join(each.names),
        )
        for each in report.versions
    ]
    head = ("version", "time (UTC)", "operation", "rows", "made by", "columns", "names")
    tell(text.table(head, rows, numbers=(0, 3)))


def restore(
    uri: Uri, version: _Version, storage_option: StorageOptions = None, as_json: Json = False
) -> None:
    """Make an earlier version the latest again. The versions in between stay in the history."""
    import laketag

    report = laketag.restore(uri, version, storage_options=store_options(uri, storage_option))
    if as_json:
        print_json(report.to_json())
    elif report.version == report.restored:
        typer.echo(f"{report.uri}: nothing to do, version {report.version} is the latest")
    elif report.version == report.version_before:
        typer.echo(
            f"{report.uri}: nothing to do, version {report.version} is what version {report.restored} was"
        )
    else:
        typer.echo(f"{report.uri}: version {report.version} is what version {report.restored} was")


def diff(
    uri: Uri, before: _Before, after: _After, storage_option: StorageOptions = None, as_json: Json = False
) -> None:
    """Compare two versions: rows, columns and labels.

    Of labels that moved, a table says from what to what.
    """
    import laketag

    report = laketag.diff(uri, before, after, storage_options=store_options(uri, storage_option))
    if as_json:
        print_json(report.to_json())
        return
    tell(_told(report))


def _maker(made_by: dict[str, str]) -> str:
    if "import" in made_by:
        return f"import ({text.count(int(made_by['import']), 'row')})"
    name = made_by.get("taggers") or made_by.get("job", "")
    rows = f" ({text.count(int(made_by['rows']), 'row')})" if "rows" in made_by else ""
    return text.cut(name, 30) + rows


def _changes(version: laketag.VersionShown) -> str:
    changes = [
        *(f"+{name}" for name in version.columns_added),
        *(f"-{name}" for name in version.columns_removed),
        *(f"~{name}" for name in version.columns_written),
    ]
    return text.cut(" ".join(changes), 60)


def _told(report: laketag.DiffReport) -> list[str]:
    lines = [
        f"{report.uri}: version {report.version_before} to {report.version_after}",
        f"rows     {report.rows_added:,} added, {report.rows_removed:,} removed; "
        f"{report.rows_before:,} before, {report.rows_after:,} after",
    ]
    if not report.has_row_ids:
        lines.append(
            "         told by place: the dataset has no stable row ids, an updated row counts as both"
        )
    lines += [f"column   +{each.name} ({each.type})" for each in report.columns_added]
    lines += [f"column   -{each.name} ({each.type})" for each in report.columns_removed]
    lines += [f"column   {each.before} is called {each.after}" for each in report.columns_renamed]
    lines += [f"column   {each.name} was {each.before}, is {each.after}" for each in report.columns_retyped]
    unmoved = [labels.column for labels in report.labels if not labels.moved]
    lines += [line for labels in report.labels if labels.moved for line in _moved(labels)]
    return [*lines, f"labels   {', '.join(unmoved)}: none moved"] if unmoved else lines


def _moved(labels: laketag.LabelsMoved) -> list[str]:
    rows = [(_label(each.before), _label(each.after), f"{each.rows:,}") for each in labels.changes[:_NAMED]]
    lines = [f"labels   {labels.column}: {labels.moved:,} of {text.count(labels.compared, 'row')} moved"]
    lines += [f"         {line}" for line in text.table(("from", "to", "rows"), rows, numbers=(2,))]
    if len(labels.changes) > _NAMED:
        lines.append(f"         {len(labels.changes) - _NAMED:,} more; --json names them all")
    return lines


def _label(value: Any) -> str:
    return "(none)" if value is None else text.cut(str(plain(value)), 40)
