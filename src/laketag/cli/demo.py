"""`laketag demo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laketag.cli.options import Json
from laketag.cli.printing import print_json

_Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the demo's shards and dataset go.")]


def demo(folder: _Folder = Path("laketag-demo"), as_json: Json = False) -> None:
    """Run the whole line on real photographs, offline.

    It prints each command before it runs it, so that one can go on from there.
    """
    import laketag

    report = laketag.demo(folder, out=sys.stderr if as_json else sys.stdout)
    if as_json:
        print_json(report.to_json())
