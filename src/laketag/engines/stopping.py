"""How a worker learns that it should stop: a flag that SIGTERM sets, read between batches."""

from __future__ import annotations

import signal
import threading

_stop = threading.Event()


def requested() -> bool:
    """Whether this process was asked to stop."""
    return _stop.is_set()


def request() -> None:
    """Ask this process to stop."""
    _stop.set()


def listen() -> None:
    """Turn SIGTERM into the flag, and leave Ctrl-C to the driver, in this process."""
    signal.signal(signal.SIGTERM, lambda *_: request())
    # A terminal sends Ctrl-C to the whole group; the driver passes it on as SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
