"""`laketag show`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laketag.cli import text
from laketag.cli.options import At, Json, StorageOptions, Uri, store_options
from laketag.cli.printing import print_json, tell

if TYPE_CHECKING:
    import laketag

_Digests = Annotated[bool, typer.Option("--digests", help="Show digest columns too.")]
_VERSION = "version."
_SQL = "sql"


def show(
    uri: Uri,
    at: At = None,
    digests: _Digests = False,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Show what a dataset holds and what made its labels.

    Rows, version, fragments, columns with their nulls, and work that is staged and not committed.
    """
    import laketag

    report = laketag.show(uri, at=at, storage_options=store_options(uri, storage_option))
    columns = [column for column in report.columns if digests or not _is_digest(column)]
    if as_json:
        names = {column.name for column in columns}
        shown = report.to_json()
        print_json(shown | {"columns": [column for column in shown["columns"] if column["name"] in names]})
        return
    typer.echo(
        f"{report.uri}: version {report.version}, {text.count(report.rows, 'row')}"
        f" in {text.count(report.fragments, 'fragment')}\n"
    )
    rows = [(column.name, text.cut(column.type, 40), _nulls(column), _maker(column)) for column in columns]
    tell(text.table(("column", "type", "nulls", "made by"), rows, numbers=(2,)))
    tell([*_makers(columns), *_staged(report.jobs)])


def _is_digest(column: laketag.ColumnShown) -> bool:
    return column.made_by is not None and column.name.endswith("_DIGEST")


def _nulls(column: laketag.ColumnShown) -> str:
    return "" if column.nulls is None else f"{column.nulls:,}"


def _maker(column: laketag.ColumnShown) -> str:
    return "" if column.made_by is None else column.made_by.get("tagger", "?")


def _makers(columns: list[laketag.ColumnShown]) -> list[str]:
    made_by = {_maker(column): column.made_by for column in columns if column.made_by}
    expressions = {column.name: column.made_by for column in columns if _maker(column) == _SQL}
    if expressions:
        del made_by[_SQL]
    lines = [f"{name}: {_described(facts)}" for name, facts in made_by.items()]
    # Each column that SQL made was made by something else.
    lines += [f"{name}: {_SQL} {(facts or {}).get('expression', '?')}" for name, facts in expressions.items()]
    return ["", *lines] if lines else []


def _described(facts: dict[str, str]) -> str:
    own = [
        f"{key} {_short(value)}"
        for key, value in facts.items()
        if not key.startswith(_VERSION) and key not in ("tagger", "digest")
    ]
    versions = [
        f"{key.removeprefix(_VERSION)} {value}" for key, value in facts.items() if key.startswith(_VERSION)
    ]
    return ", ".join([*own, *versions])


def _short(value: str) -> str:
    is_digest = len(value) >= 32 and all(letter in "0123456789abcdef" for letter in value)
    return value[:12] if is_digest else text.cut(value, 40)


def _staged(jobs: tuple[laketag.JobShown, ...]) -> list[str]:
    lines = [
        f"staged, not committed: {text.count(job.rows, 'row')} by {job.tagger or 'a tagger'}"
        f" (job {_short(job.job)}); the same tag command goes on from there"
        for job in jobs
    ]
    return ["", *lines] if lines else []
