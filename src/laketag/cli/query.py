"""`laketag query`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laketag.cli import rows, text
from laketag.cli.options import At, StorageOptions, Uri, Where, column_names, require_local, store_options
from laketag.cli.printing import say
from laketag.errors import WrongUsage

_Columns = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="The columns; all but bytes, vectors and digests if not given."),
]
_OrderBy = Annotated[str | None, typer.Option(metavar="COLUMN", help='As "SHARPNESS desc"; nulls come last.')]
_Limit = Annotated[int | None, typer.Option(metavar="N", min=0, help="At most so many rows.")]
_Sql = Annotated[
    str | None, typer.Option(metavar="QUERY", help='A whole query instead, as "select ... from dataset".')
]
_SimilarTo = Annotated[
    str | None,
    typer.Option(metavar="KEY", help="The rows nearest to the one of this key, by a column of vectors."),
]
_Vector = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="The column of vectors for --similar-to, where there are several."),
]
_Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a .parquet, .csv or .jsonl file instead of printing."),
]
_JsonRows = Annotated[bool, typer.Option("--json", help="Print one JSON object a row.")]


def query(
    uri: Uri,
    where: Where = None,
    columns: _Columns = None,
    order_by: _OrderBy = None,
    limit: _Limit = None,
    at: At = None,
    sql: _Sql = None,
    similar_to: _SimilarTo = None,
    vector: _Vector = None,
    output: _Output = None,
    storage_option: StorageOptions = None,
    as_json: _JsonRows = False,
) -> None:
    """Print rows, or write them to a file."""
    if output is not None:
        if output.suffix not in rows.WRITERS:
            raise WrongUsage(f"--output {output} does not end in {', '.join(rows.WRITERS)}")
        require_local(output, "`laketag export` writes to a store")
    import laketag

    batches = laketag.query(
        uri,
        storage_options=store_options(uri, storage_option),
        selection=laketag.Selection(
            where, column_names(columns), order_by, limit, at, sql=sql, similar_to=similar_to, vector=vector
        ),
    )
    if output is not None:
        say(f"{text.count(rows.write(batches, output), 'row')} in {output}")
    elif as_json:
        rows.print_objects(batches)
    else:
        rows.print_table(batches)
