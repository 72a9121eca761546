"""`laketag report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laketag.cli import text
from laketag.cli.options import At, ImageColumn, Json, StorageOptions, Uri, require_local, store_options
from laketag.cli.printing import print_json
from laketag.errors import WrongUsage

_File = Annotated[Path, typer.Argument(metavar="FILE.html", help="The page; one that is there is replaced.")]


def report(
    uri: Uri,
    file: _File,
    at: At = None,
    column: ImageColumn = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Write one page about the labels, with pictures, to mail.

    It opens anywhere, offline, and holds each label's distribution, pictures of each bucket, errors by
    reason, what made the labels, and what they cost.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise WrongUsage(f"{file} does not end in .html; give the page a name as labels.html")
    require_local(file, "write the page here, and copy it to the store")
    import laketag

    made = laketag.report(uri, file, at=at, column=column, storage_options=store_options(uri, storage_option))
    if as_json:
        print_json(made.to_json())
        return
    typer.echo(
        f"{made.file}: {text.count(made.pictures, 'picture')} of {text.count(made.rows, 'row')}, "
        f"version {made.version}, {text.size(made.bytes)}, {text.duration(made.seconds)}"
    )
