"""The program `laketag`: its commands, each a thin skin over the public function of the same name."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Annotated

import typer

from laketag import __version__
from laketag.cli import (
    columns,
    demo,
    export,
    history,
    import_,
    query,
    report,
    serve,
    show,
    tag,
    taggers,
    upkeep,
)
from laketag.cli.leaving import leaving
from laketag.cli.printing import open_what_is_closed, take_any_text

app = typer.Typer(
    name="laketag",
    help="Tag the images of a data lake with models: shards in, label columns on a Lance dataset out.",
    epilog="A first look, offline: laketag demo",
    no_args_is_help=True,
    add_completion=False,
    # Plain help, twice as fast; and a traceback must not print local values, which may be credentials.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"laketag {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


app.command("import", cls=import_.Import)(leaving(import_.import_))
app.command("tag")(leaving(tag.tag))
app.command("query")(leaving(query.query))
app.command("export")(leaving(export.export))
app.command("show")(leaving(show.show))
app.command("taggers")(leaving(taggers.taggers))
app.command("add-column")(leaving(columns.add_column))
app.command("drop-column")(leaving(columns.drop_column))
app.command("rename-column")(leaving(columns.rename_column))
app.command("cast-column")(leaving(columns.cast_column))
app.command("adopt")(leaving(columns.adopt))
app.command("versions")(leaving(history.versions))
app.command("restore")(leaving(history.restore))
app.command("diff")(leaving(history.diff))
app.command("index")(leaving(upkeep.index))
app.command("clean")(leaving(upkeep.clean))
app.command("report")(leaving(report.report))
app.command("serve")(leaving(serve.serve))
app.command("demo")(leaving(demo.demo))


def main() -> None:
    """Run the program on the command line's words."""
    signal.signal(signal.SIGTERM, _stop)
    open_what_is_closed()
    take_any_text()
    # What Lance warns of is for its makers: people get a line of ours where something is wrong.
    os.environ.setdefault("LANCE_LOG", "error")
    app()


def _stop(signum: int, frame: FrameType | None) -> None:
    # A spot machine that is taken away ends like Ctrl-C: staged, with a line that says how to go on.
    raise KeyboardInterrupt(signal.Signals(signum).name)
