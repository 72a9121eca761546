"""Whether a store answers, looked at now and then while work goes on: who waits should know what for."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike

from laketag.lake.location import Location
from laketag.lake.patience import explained, is_of_the_store

EVERY = 5.0
"""Seconds between two looks, and what one may take."""


@contextmanager
def watch_store(
    uri: str | PathLike[str], tell: Callable[[str], None], *, storage_options: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Tell when a store stops answering while the body runs, and when it answers again.

    Requests are tried again for minutes by whoever made them; nothing is done here but looking. What the
    store refuses in the end leaves the body as one line.

    Args:
        uri: the dataset's; nothing is looked at where it is a folder.
        tell: called with one line, from another thread.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        StoreError: instead of an error of Lance's that tells of the store.
    """
    location = Location.of(uri, storage_options)
    if location.is_local:
        yield
        return
    with watching(location, tell), explained(location.uri, stages=False):
        yield


@contextmanager
def watching(location: Location, tell: Callable[[str], None]) -> Iterator[None]:
    """Tell when a store, or a web server, stops answering while the body runs, and when it answers again."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(location, tell, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(location: Location, tell: Callable[[str], None], ended: threading.Event) -> None:
    is_silent = False
    while not ended.wait(EVERY):
        answers = _answers(location)
        if answers == is_silent:
            is_silent = not answers
            tell(
                f"{location.uri} does not answer; trying again for up to five minutes"
                if is_silent
                else f"{location.uri} answers again"
            )


def _answers(location: Location) -> bool:
    if location.scheme in ("http", "https"):
        return _server_answers(location.uri)
    from lance.file import LanceFileSession

    brief = {"client_max_retries": "0", "client_retry_timeout": "1", "timeout": f"{EVERY:.0f}s"}
    try:
        session = LanceFileSession(location.uri, storage_options={**location.storage_options, **brief})
        session.contains("_versions")
    except (OSError, RuntimeError) as error:
        return not is_of_the_store(error)
    return True


def _server_answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=EVERY):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < http.client.INTERNAL_SERVER_ERROR  # what it refuses, it has answered
    except (OSError, http.client.HTTPException):
        return False
