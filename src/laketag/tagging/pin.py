"""Keeping a version from cleanup while a run reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location


@contextmanager
def pinned(location: Location, version: int, job: str, part: str) -> Iterator[None]:
    """Hold a Lance tag on a version; one that a killed run of the same part of the job left is moved."""
    name = f"laketag-{job[:16]}-{part}"
    tags = open_dataset(location, version).tags
    if name in tags.list():
        tags.update(name, version)
    else:
        tags.create(name, version)
    try:
        yield
    finally:
        tags.delete(name)
