"""The short form of `tests/stress.py`; the long form is that program."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stress import stress


@pytest.mark.slow
@pytest.mark.parametrize("stable_row_ids", [True, False])
def test_no_label_is_lost_stale_doubled_or_misplaced_under_other_writers_and_kills(
    tmp_path: Path, stable_row_ids: bool
) -> None:
    seed = int(time.time())

    found = stress(str(tmp_path / "data"), 12, seed, stable_row_ids=stable_row_ids)

    wrong = {key: found[key] for key in ("null", "not found", "wrong", "duplicate", "unexpected")}
    assert wrong == {"null": 0, "not found": 0, "wrong": 0, "duplicate": 0, "unexpected": ""}, (
        f"seed {seed}: {found}"
    )
