"""What fails below a public function, at Lance, the disk or the store, said as one line of ours."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from typing import ParamSpec, TypeVar

from laketag.errors import BadSQL, DatasetError, StoreError, WrongUsage
from laketag.lake.patience import OF_LANCE, explained, is_said_by_a_store, what_the_store_said

P = ParamSpec("P")
R = TypeVar("R")

_NO_TABLE = re.compile(r"table '(?:datafusion\.public\.)?(.+?)' not found")
_WRAPPED = re.compile(
    r"^(External error: |LanceError\(\w+\): |Generic N/A error: |Error during planning: |SQL error: "
    r"|Error parsing function: |Not supported: |This feature is not implemented: )+"
)
_PARSED = re.compile(r'^ParserError\("(.*)"\)$')
_NO_COLUMN = re.compile(r"No field named \"?(.+?)\"?\. Valid fields are (.+?)\.?$")
_COLUMN_MEANT = re.compile(r"No field named \"?(.+?)\"?\. Did you mean '(.+?)'\?\.?$")
# Before the reason stands the filter, as the planner understood it.
_FILTER_REPEATED = re.compile(r"^Invalid user input: Error optimizing sql filter: .* \(Invalid user input: ")


def explaining(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function of a dataset's `uri` say in one line what it cannot work with.

    It raises a `StoreError` where a file or the store fails it, and `WrongUsage` where it is given something
    else for one of laketag's own values, as a filter's text for `rows`.
    """
    parameters = inspect.signature(function).parameters
    place = list(parameters).index("uri")
    values = {
        name: type(each.default)
        for name, each in parameters.items()
        if is_dataclass(each.default) and each.annotation == type(each.default).__name__
    }

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        uri = str(kwargs["uri"] if "uri" in kwargs else args[place] if place < len(args) else "")
        for name, kind in values.items():
            if name in kwargs and not isinstance(kwargs[name], kind):
                given = type(kwargs[name]).__name__
                raise WrongUsage(f"{name} is a {given}; give laketag.{kind.__name__}(...), or leave it out")
        with all_explained(uri):
            return function(*args, **kwargs)

    return run


@contextmanager
def all_explained(uri: str) -> Iterator[None]:
    """Turn what a disk or a store refuses into one line.

    Raises:
        StoreError: instead of its error.
    """
    with explained(uri, stages=False), files_explained(uri):
        yield


@contextmanager
def files_explained(uri: str, is_meant: Callable[[Exception], bool] = lambda _: True) -> Iterator[None]:
    """Turn what a disk refuses into one line; `is_meant` leaves other errors of files alone.

    Raises:
        StoreError: instead of the disk's error.
    """
    try:
        yield
    except OF_LANCE as error:
        if not _is_of_a_file(error) or not is_meant(error):
            raise
        raise StoreError(_line(error, uri)) from error


@contextmanager
def sql_explained(uri: str, kind: str, text: str | None) -> Iterator[None]:
    """Say in one line why Lance does not run what people wrote in SQL, or does not give its rows.

    Args:
        uri: the dataset's.
        kind: what was written: `filter`, `query` or `expression`.
        text: it; None where there is none.

    Raises:
        BadSQL: it cannot be run.
        DatasetError: rows cannot be read, whatever was written.
        StoreError: the store refuses, or does not answer.
    """
    try:
        with explained(uri, stages=False):
            yield
    except OF_LANCE as error:
        why = first_line(error)
        if text is None or why.startswith("Not found: "):  # of a file, which is not the text's fault
            raise DatasetError(f"the rows of {uri} cannot be read: {why}") from error
        raise BadSQL(f"the {kind} {text!r} cannot be run: {why}") from error


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


def first_line(error: BaseException) -> str:
    """Shorten one of Lance's messages: its first line, without what only Lance's makers can use.

    Of what a store answered only the codes are repeated.
    """
    if is_said_by_a_store(error):
        return what_the_store_said(error)
    line = _WRAPPED.sub("", str(error).strip().split("\n")[0].split(", /")[0].strip())
    _, _, parsed = line.partition("(sql parser error: ")  # before it stands a statement that nobody wrote
    line = parsed.removesuffix(")") if parsed else line
    line = _FILTER_REPEATED.sub("", line)
    line = _WRAPPED.sub("", line.replace("Invalid user input: ", "").replace("Schema error: ", ""))
    line = _PARSED.sub(r"\1", line).replace("found: EOF", "found the end")
    line = _NO_TABLE.sub(
        r"there is no table \1; the rows are those of dataset, as in select ... from dataset", line
    )
    line = _COLUMN_MEANT.sub(r"there is no column \1; did you mean \2?", line)
    return _NO_COLUMN.sub(_columns_to_choose_from, line)


def _columns_to_choose_from(found: re.Match[str]) -> str:
    columns = [each.rpartition(".")[2].strip('"') for each in found[2].split(", ")]
    # Lance's own, as _rowid, are nobody's columns.
    own = ", ".join(name for name in columns if not name.startswith("_row"))
    return f"there is no column {found[1]} (a text would be '{found[1]}'); columns: {own}"
