"""What a run holds while it works: its jobs' leases, and a version that cleanup must not take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from laketag.errors import JobRefused, StoreError
from laketag.lake.dataset import open_dataset
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


@contextmanager
def pinned(location: Location, version: int, job: str, part: str) -> Iterator[None]:
    """Hold a Lance tag on a version; one that a killed run of the same part of the job left is moved."""
    name = f"laketag-{job[:16]}-{part}"
    tags = open_dataset(location, version).tags
    if name in tags.list():
        tags.update(name, version)
    else:
        tags.create(name, version)
    is_reachable = True
    try:
        yield
    except StoreError:
        is_reachable = False  # the next run of the job moves the tag, and `clean` takes it
        raise
    finally:
        if is_reachable:
            tags.delete(name)
