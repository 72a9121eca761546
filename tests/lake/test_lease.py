"""Leases: who holds one, and who does no longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from laketag.errors import JobRefused, StoreError
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.lake.staged import LEASE, StagedFiles


def test_a_lease_that_could_not_be_given_back_does_not_hold_up_the_process_that_had_it(
    tmp_path: Path,
) -> None:
    location = Location.of(tmp_path)
    with pytest.raises(StoreError), leased(location, "work", "it"):
        raise StoreError("the store does not answer")
    assert StagedFiles(location, f"work/{LEASE}").names()

    with (
        leased(location, "work", "it"),
        pytest.raises(JobRefused, match="it is at work"),
        leased(location, "work", "it"),
    ):
        pass
