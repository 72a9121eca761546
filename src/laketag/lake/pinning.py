"""A version that cleanup must not take: held while work reads it, or until work that broke off is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from laketag.errors import StoreError
from laketag.lake.dataset import PIN_PREFIX, create_tag, open_dataset
from laketag.lake.lease import LASTS, leased
from laketag.lake.location import Location
from laketag.lake.patience import OF_LANCE
from laketag.lake.staged import LEASE, StagedFiles

JOB_LENGTH = 16
"""So much of a job's name is in its pin's name, by which `clean` tells whose it is."""
_MARK = "kept.lance"


@contextmanager
def pinned(location: Location, version: int, job: str, part: str) -> Iterator[None]:
    """Hold a Lance tag on a version; one that a killed run of the same part of the job left is moved."""
    name = _pin(location, version, job, part)
    is_reachable = True
    try:
        yield
    except StoreError:
        is_reachable = False  # the next run of the job moves the tag, and `clean` takes it
        raise
    finally:
        if is_reachable:
            open_dataset(location).tags.delete(name)


@contextmanager
def kept(location: Location, version: int, job: str, name: str) -> Iterator[None]:
    """Hold a version until the body has come to its end; where it breaks off, as long as staged work is kept.

    The work holds a lease meanwhile. Of a dataset that cannot be written to nothing is held: to read it is
    allowed all the same.

    Args:
        location: the dataset's.
        version: the one that the body reads, and that it needs to go on.
        job: the folder below `_laketag/` that stands for the work, alike in each attempt.
        name: what people call it.

    Raises:
        JobRefused: the same work is at work.
    """
    folder, pin = StagedFiles(location, job), None
    try:
        with ExitStack() as leases:
            with suppress(StoreError, *OF_LANCE):  # it cannot be written to
                # A lease that a killed attempt left runs out while this one waits.
                leases.enter_context(leased(location, job, name, waits=LASTS))
                pin = _pin(location, version, job, "all")
                folder.mark(_MARK)
            yield
            if pin is not None:
                open_dataset(location).tags.delete(pin)
                folder.delete([_MARK])
    finally:
        StagedFiles(location, "").drop_folders([f"{job}/{LEASE}/of", f"{job}/{_MARK}"])


def _pin(location: Location, version: int, job: str, part: str) -> str:
    name = f"{PIN_PREFIX}{job[:JOB_LENGTH]}-{part}"
    dataset = open_dataset(location, version)
    if name in dataset.tags.list():
        dataset.tags.update(name, version)
    else:
        create_tag(location, dataset, name)
    return name
