"""Starting somebody else's cluster from a process that is not theirs."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def launching() -> Iterator[None]:
    """Undo what Ray and Spark do to the process that starts them, or joins them.

    Their handlers of Ctrl-C and SIGTERM make way for those that were there before. And they fork to start
    their programs, which libraries with threads warn of, though nothing but another program runs there.
    """
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork")
            yield
    except SystemExit as end:
        if end.code == signal.SIGTERM and before:
            # It came while the handler was Ray's, which ends the program: the one before knows better.
            signal.signal(signal.SIGTERM, before[signal.SIGTERM])
            signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
