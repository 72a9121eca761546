"""`laketag add-column`, `drop-column`, `rename-column`, `cast-column` and `adopt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from laketag.cli import progress, text
from laketag.cli.options import (
    EngineName,
    EngineOptions,
    ImageColumn,
    Inputs,
    Json,
    StorageOptions,
    Uri,
    Workers,
    engine,
    pairs,
    store_options,
)
from laketag.cli.printing import print_json, tell

if TYPE_CHECKING:
    import laketag

_Name = Annotated[str, typer.Argument(metavar="NAME", help="The column; exact-case.")]
_NewName = Annotated[str, typer.Argument(metavar="NEW_NAME", help="Its name from now on.")]
_Sql = Annotated[
    str,
    typer.Argument(
        metavar="SQL", help="An expression, as \"case when SCORE > 5 then 'good' else 'bad' end\"."
    ),
]
_Type = Annotated[str, typer.Argument(metavar="TYPE", help="The new type, as float64 or int32.")]
_Columns = Annotated[
    list[str], typer.Argument(metavar="COLUMN", help="Label columns; the tagger's others come along.")
]
_As = Annotated[str, typer.Option("--as", metavar="TAGGER", help="Whose labels they are, as for tag --with.")]
_Replace = Annotated[bool, typer.Option("--replace", help="Replace the values of a column that is there.")]


def add_column(
    uri: Uri,
    name: _Name,
    sql: _Sql,
    replace: _Replace = False,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Add a column with the values of an SQL expression.

    It takes all that `query --sql` takes between select and from: CASE, windows, subqueries. No image is
    written. Rows that come later have no value; with --replace the same command gives them one.
    """
    import laketag

    options = store_options(uri, storage_option)
    report = laketag.add_column(uri, name, sql, replace=replace, storage_options=options)
    _print(report, f"column {name} has its values", as_json=as_json)


def adopt(
    uri: Uri,
    columns: _Columns,
    tagger: _As,
    column: ImageColumn = None,
    inputs: Inputs = None,
    engine_name: EngineName = "local",
    workers: Workers = None,
    engine_option: EngineOptions = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Take over label columns that another program made.

    `tag` then goes on where they end. The labels stay as they are. Rows that have one are
    read once, to note which image it belongs to; no model is run. Rows without labels are left for `tag`.
    """
    import laketag

    place = engine(engine_name, workers, engine_option)
    with progress.shown("adopt") as report_progress:
        report = laketag.adopt(
            uri,
            columns,
            tagger,
            storage_options=store_options(uri, storage_option),
            settings=laketag.TagSettings(
                column=column, inputs=pairs("--input", inputs), progress=report_progress
            ),
            engine=place,
        )
    if as_json:
        print_json(report.to_json())
        return
    typer.echo(
        f"{report.uri}: version {report.version}, {tagger} has {text.count(report.labelled, 'row')}, "
        f"{report.failed:,} of them failed; {report.missing:,} have no labels, `laketag tag` computes them"
    )


def drop_column(uri: Uri, name: _Name, storage_option: StorageOptions = None, as_json: Json = False) -> None:
    """Drop a column. `restore` brings it back until `clean` deletes its version."""
    import laketag

    report = laketag.drop_column(uri, name, storage_options=store_options(uri, storage_option))
    _print(report, f"column {name} is dropped; `laketag restore` can bring it back", as_json=as_json)


def rename_column(
    uri: Uri,
    name: _Name,
    new_name: _NewName,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Rename a column. What made a label column stays recorded with it."""
    import laketag

    options = store_options(uri, storage_option)
    report = laketag.rename_column(uri, name, new_name, storage_options=options)
    _print(report, f"column {name} is called {new_name}", as_json=as_json)


def cast_column(
    uri: Uri,
    name: _Name,
    kind: _Type,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Give a column a wider or narrower type.

    Integers stay integers, floats floats, strings strings.
    """
    import laketag

    options = store_options(uri, storage_option)
    report = laketag.cast_column(uri, name, kind, storage_options=options)
    _print(report, f"column {name} is {kind}", as_json=as_json)


def _print(report: laketag.EvolveReport, done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json())
        return
    tell([f"{report.uri}: version {report.version}", done, f"columns  {', '.join(report.columns)}"])
