"""Trying again what a store refuses for now."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from laketag.errors import StoreError

T = TypeVar("T")
R = TypeVar("R")

_LASTS = 300.0
"""Seconds after which a store that does not answer is given up."""
OF_LANCE = (OSError, RuntimeError, ValueError)
"""The types of which Lance's errors are, one place this and another that."""
_LONGEST_PAUSE = 8.0
# By these Lance's errors of a store are known.
_REQUEST, _NO_KEY = "Error performing", "Failed to get AWS credentials"
_HINTS = {
    **dict.fromkeys(("400", "401", "403"), "look at the credentials"),
    "404": "look at the address, the bucket's name and the endpoint",
}
# All but "request timeout" and "too many requests" will be refused the next time, too.
_REFUSED = re.compile(r"status code: 4(?!08|29)")


def is_of_the_store(error: Exception) -> bool:
    """Whether an error, of Lance's or of ours made from it, tells of a store that does not answer for now."""
    if isinstance(error, StoreError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = str(error)
    return isinstance(error, OF_LANCE) and _REQUEST in text and not _REFUSED.search(text)


def is_said_by_a_store(error: BaseException) -> bool:
    """Whether an error tells of a request to a store: its text may hold the answer, and so a secret."""
    text = str(error)
    return _REQUEST in text or _NO_KEY in text


def says_there_is_nothing(error: BaseException) -> bool:
    """Whether a store said that what was asked for is not there, though its bucket is."""
    text = str(error)
    return "status code: 404" in text and "NoSuchBucket" not in text


def what_the_store_said(error: BaseException) -> str:
    """Say it in a few words. Of an answer only codes are repeated: the rest may tell a secret."""
    text = str(error)
    if _NO_KEY in text:
        return (
            "no credentials could be had; give them as options (-o), in the environment or by a profile, "
            "and run the same command again"
        )
    found = (re.search(r"status code: (\d{3} [A-Z][A-Za-z ]+)", text), re.search(r"<Code>(\w+)</Code>", text))
    said = " ".join(match[1].strip() for match in found if match)
    if not said:
        return "the store does not answer; look at the endpoint, and run the same command again"
    return f"the store said {said}; {_HINTS.get(said[:3], 'run the same command again')}"


@contextmanager
def explained(uri: str, *, stages: bool = True) -> Iterator[None]:
    """Turn what a store refuses, or does not answer, into one line.

    Args:
        uri: what is read or written.
        stages: whether work is staged there, which is kept.

    Raises:
        StoreError: instead of the store's error.
    """
    try:
        yield
    except OF_LANCE as error:
        if not is_said_by_a_store(error):
            raise
        kept = "; staged work is kept" if stages else ""
        raise StoreError(f"{uri} cannot be read or written: {what_the_store_said(error)}{kept}") from error


def patiently(
    action: Callable[[], T],
    may_pass: Callable[[Exception], bool],
    *,
    given_up: threading.Event | None = None,
) -> T:
    """Do something, again and again for five minutes while it fails in a way that may pass.

    Args:
        action: what to do; it must be safe to do twice.
        may_pass: whether an error is worth another attempt.
        given_up: once it is set, the next failure is the last.
    """
    deadline, pause, stop = time.monotonic() + _LASTS, 0.1, given_up or threading.Event()
    while True:
        try:
            return action()
        except Exception as error:  # `may_pass` decides; all others are raised as they are
            if time.monotonic() > deadline or stop.is_set() or not may_pass(error):
                raise
        stop.wait(random.uniform(pause / 2, pause))
        pause = min(_LONGEST_PAUSE, pause * 2)


def at_once(action: Callable[[T, threading.Event], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """Do something patient with many items, several at a time; yields the results in order.

    Args:
        action: is given an item, and what is set where the rest is given up: whoever presses Ctrl-C is not to
            wait until all have lost their patience.
        items: what to do it with.
        threads: so many at a time.
    """
    given_up = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        try:
            yield from pool.map(lambda item: action(item, given_up), items)
        except BaseException:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
