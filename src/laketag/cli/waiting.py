"""One line on stderr when a command waits for its store, and one when the store is back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from laketag.cli.options import store_options
from laketag.cli.printing import say


@contextmanager
def told_of_silence(arguments: Mapping[str, Any]) -> Iterator[None]:
    """Watch the store of a command that has one, while the command runs."""
    uri = str(arguments.get("uri") or "")
    if "://" not in uri:
        yield
        return
    import laketag

    options = store_options(uri, arguments.get("storage_option"))
    with laketag.watch_store(uri, say, storage_options=options):
        yield
