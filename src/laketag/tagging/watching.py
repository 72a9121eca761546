"""Progress without a channel: what is staged is counted, whatever the engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from laketag.engines.protocol import Progress
from laketag.lake.patience import OF_LANCE

# A look takes a listing of the store; it may cost a twentieth of the time.
_SHARE = 20
_LEAST_SECONDS = 0.5


@contextmanager
def watching(
    count: Callable[[], int],
    rows: int,
    report: Callable[[Progress], None] | None,
    detail: Callable[[], str],
) -> Iterator[None]:
    """Report how many rows there are so far, and how it goes, now and then, while the body runs."""
    if report is None:
        yield
        return
    ended = threading.Event()

    def look() -> None:
        pause = _LEAST_SECONDS
        while not ended.wait(pause):
            started = time.monotonic()
            try:
                so_far = count()
            except OF_LANCE:
                continue  # a store that does not answer is the run's matter, not the look's
            report(Progress(min(so_far, rows), rows, "rows", "tagging", detail()))
            pause = max(_LEAST_SECONDS, _SHARE * (time.monotonic() - started))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    report(Progress(rows, rows, "rows", "tagging"))
