"""Trying again what a store refuses for now."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LASTS = 300.0
"""Seconds after which a store that does not answer is given up."""
_LONGEST_PAUSE = 8.0


def patiently(
    action: Callable[[], T],
    may_pass: Callable[[Exception], bool],
    *,
    given_up: threading.Event | None = None,
    lasts: float = LASTS,
) -> T:
    """Do something, again and again while it fails in a way that may pass.

    Args:
        action: what to do; it must be safe to do twice.
        may_pass: whether an error is worth another attempt.
        given_up: once it is set, the next failure is the last.
        lasts: seconds for which failures are borne.
    """
    deadline, pause, stop = time.monotonic() + lasts, 0.1, given_up or threading.Event()
    while True:
        try:
            return action()
        except Exception as error:  # `may_pass` decides; all others are raised as they are
            if time.monotonic() > deadline or stop.is_set() or not may_pass(error):
                raise
        stop.wait(random.uniform(pause / 2, pause))
        pause = min(_LONGEST_PAUSE, pause * 2)
