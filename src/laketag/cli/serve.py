"""`laketag serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from laketag.cli.options import ImageColumn, StorageOptions, Uri, store_options
from laketag.errors import Interrupted

_Host = Annotated[
    str, typer.Option(metavar="HOST", help="Where to listen; beyond this machine a token is asked for.")
]
_Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes a free one.")]
_Token = Annotated[
    str | None, typer.Option(metavar="TOKEN", help="What readers must show; made up where one is needed.")
]


def serve(
    uri: Uri,
    host: _Host = "127.0.0.1",
    port: _Port = 8321,
    token: _Token = None,
    column: ImageColumn = None,
    storage_option: StorageOptions = None,
) -> None:
    """Serve a gallery to look, filter, sort and choose in.

    It reads only, prints the address to open, and runs until Ctrl-C. It needs `pip install 'laketag[serve]'`.
    """
    import laketag

    try:
        laketag.serve(
            uri,
            column=column,
            address=laketag.Address(host, port, token),
            storage_options=store_options(uri, storage_option),
            started=lambda address: typer.echo(f"{address}\nCtrl-C ends it."),
        )
    except KeyboardInterrupt:
        raise Interrupted("the gallery has ended") from None
