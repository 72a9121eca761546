"""An engine in the process that calls it: nothing is started, for tests of what tasks do and not of where."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from laketag.shards import importing
from laketag.tagging import adopting, run


class Here:
    """Runs tasks where it is called, one after the other."""

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Generator[Any, None, None]:
        """Yield each task's result."""
        yield from map(fn, tasks)


tag = partial(run.tag, engine=Here())
import_ = partial(importing.import_, engine=Here())
adopt = partial(adopting.adopt, engine=Here())
