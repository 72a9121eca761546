"""What fails below a public function, at Lance, the disk or the store, said as one line of ours."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from laketag.errors import StoreError
from laketag.lake.patience import OF_LANCE, explained
from laketag.lake.reading import first_line

P = ParamSpec("P")
R = TypeVar("R")


def explaining(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of a dataset's `uri` raise a `StoreError` where a file or the store fails it."""
    place = list(inspect.signature(function).parameters).index("uri")

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        uri = str(kwargs["uri"] if "uri" in kwargs else args[place] if place < len(args) else "")
        try:
            with explained(uri, stages=False):
                return function(*args, **kwargs)
        except OF_LANCE as error:
            if not _is_of_a_file(error):
                raise
            raise StoreError(_line(error, uri)) from error

    return run


def _is_of_a_file(error: Exception) -> bool:
    # A reader that left is no fault of the dataset's. Lance's own messages name the place in its source.
    is_of_the_system = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
    return is_of_the_system or any(mark in str(error) for mark in ("LanceError(IO)", "/rust/lance"))


def _line(error: Exception, uri: str) -> str:
    why = first_line(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return (
        f"{uri} cannot be read or written ({why}); "
        "look at the path, its permissions and the space left, and run the same again"
    )
