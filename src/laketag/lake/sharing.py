"""Whether every worker sees the folder that the driver sees: others may have one of the same path."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from laketag.errors import DatasetError
from laketag.lake.explaining import files_explained
from laketag.lake.lease import held_parts
from laketag.lake.location import Location
from laketag.lake.staged import ROOT, StagedFiles

_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


@dataclass(frozen=True)
class OnSharedDisk:
    """A function of tasks that looks for the driver's mark first."""

    function: Callable[[Any], Any]
    folder: str
    """The dataset's."""
    mark: str
    """A file that is there while the driver works."""
    host: str
    """The driver's machine."""

    def __call__(self, task: Any) -> Any:
        """Run the function.

        Raises:
            DatasetError: this machine does not have the driver's folder.
            StoreError: the disk refuses to be read or written; that is no bug of the function's.
        """
        if not os.path.exists(self.mark):
            raise DatasetError(
                f"{self.folder} is a folder of {self.host}, which {socket.gethostname()} does not share: put "
                "the dataset on an object store, or on a disk that all machines have at the same path"
            )
        with files_explained(self.folder, _is_full_or_closed):
            return self.function(task)


def _is_full_or_closed(error: Exception) -> bool:
    # Others may be of a file that has nothing to do with the dataset, as a model's weights.
    return not isinstance(error, OSError) or error.errno in (None, *_REFUSALS)


@contextmanager
def on_shared_disk(
    location: Location, work: str, function: Callable[[Any], Any], *, part: str = "all"
) -> Iterator[Callable[[Any], Any]]:
    """Guard a function of tasks against machines that lack the dataset's folder, while the body runs.

    Args:
        location: the dataset's; on an object store every machine sees the same, so that there is no guard.
        work: the folder below `_laketag/` of the work at hand, which is leased.
        function: what workers run.
        part: the caller's lease.
    """
    if not location.is_local:
        yield function
        return
    folder, name = f"{work}/here", f"{part}.{uuid.uuid4().hex}.lance"
    marks = StagedFiles(location, folder)
    # Whoever was killed has left its mark. They are listed first: who begins now has a lease before a mark.
    there = marks.names()
    others = held_parts(location, work) - {part}
    marks.delete([left for left in there if left.partition(".")[0] not in others])
    marks.mark(name)
    try:
        mark = os.path.join(location.uri, ROOT, folder, name)
        yield OnSharedDisk(function, location.uri, mark, socket.gethostname())
    finally:
        marks.delete([name])
