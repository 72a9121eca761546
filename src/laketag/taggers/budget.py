"""The memory that rows under way may take together."""

from __future__ import annotations

import threading
from typing import Any

_ROWS_AT_MOST = 4096
_ROWS_AT_FIRST = 16


class Budget:
    """Bytes that are taken before and given back after; what alone is too large may go alone.

    What `prepare` will make of a row is not known before it has: each row is charged what the
    rows before it took (a sixteenth of all at first), and `settle` puts that right.
    """

    def __init__(self, limit: int) -> None:
        """Start with all of it free: so many bytes."""
        self._limit = limit
        self._used = 0
        self._is_open = True
        self._changed = threading.Condition()
        self.floor = max(1, limit // _ROWS_AT_MOST)
        """What even the smallest row is charged, so that there are never too many."""
        self.expected = max(1, limit // _ROWS_AT_FIRST)
        """What a row is thought to take once it is prepared."""
        self._is_known = False

    def try_take(self, cost: int) -> bool:
        """Take if there is room now."""
        with self._changed:
            if self._is_open and not self._has_room(cost):
                return False
            self._used += cost
            return self._is_open

    def take(self, cost: int) -> bool:
        """Wait for room and take it; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_open or self._has_room(cost))
            self._used += cost
            return self._is_open

    def give(self, cost: int) -> None:
        """Give back."""
        with self._changed:
            self._used -= cost
            self._changed.notify_all()

    def settle(self, charged: int, *, kept: int, largest: int) -> None:
        """Charge a group of rows what it keeps instead of what was thought; `largest` is its largest row."""
        with self._changed:
            # Falls slowly, so that one large row holds up the small ones after it only for a while.
            self.expected = max(largest, self.expected * 9 // 10) if self._is_known else largest
            self._is_known = True
            self._used += kept - charged
            self._changed.notify_all()

    def close(self) -> None:
        """Let go whoever waits."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def _has_room(self, cost: int) -> bool:
        return self._used == 0 or self._used + cost <= self._limit


def size_of(value: Any) -> int:
    """Say about how many bytes of memory a value holds."""
    if value is None or isinstance(value, bool | int | float):
        return 0
    if isinstance(value, bytes | str):
        return len(value)
    size = getattr(value, "nbytes", None)  # arrays of every kind
    if isinstance(size, int):
        return size
    if isinstance(value, dict):
        return sum(map(size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    width, height = getattr(value, "width", None), getattr(value, "height", None)
    return 4 * width * height if isinstance(width, int) and isinstance(height, int) else 64
