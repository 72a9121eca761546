"""What a run holds while it works: its jobs' leases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from laketag.errors import JobRefused
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.tagging.job import Job


@contextmanager
def leased_jobs(location: Location, jobs: Sequence[Job], part: str) -> Iterator[None]:
    """Hold the leases of a run's jobs, so that no other run does the same work meanwhile.

    Raises:
        JobRefused: another run holds one; the text says who, and since when.
    """
    with ExitStack() as leases:
        for job in jobs:
            try:
                leases.enter_context(leased(location, job.digest, f"tagger {job.name!r}", part))
            except JobRefused as error:
                raise JobRefused(f"{error}; `tag --slice` divides a job among several runs") from error
        yield
