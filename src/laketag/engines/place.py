"""Which of an engine's workers this process is, so that the workers of one machine share out its devices."""

from __future__ import annotations

_number = 0


def number() -> int:
    """Count this worker, from 0 on; what replaces a dead worker takes its number."""
    return _number


def take(number: int) -> None:
    """Be the worker of a number."""
    global _number  # a process has one place, as it has one id
    _number = number
