"""The short form of `tests/sequences.py`: random sequences of what laketag does, held against an oracle."""

from __future__ import annotations

import time

import pytest

from sequences import explored


@pytest.mark.slow
def test_whatever_is_done_in_whatever_order_no_work_is_lost_repeated_or_misplaced() -> None:
    seed, until = int(time.time()), time.monotonic() + 12

    while time.monotonic() < until:
        played = explored(seed, 10)
        assert not played.wrong, f"seed {seed}:\n{played}"
        seed += 1
