"""Memory for large bodies: read into once, written from as it is, and used again when no one holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import pyarrow as pa

LARGE = 32 << 10
"""Smaller bodies are copied as they come: to hold one would hold all its neighbours."""
_SLAB, _MOST = 8 << 20, 8
_RUNS = 4


@dataclass
class Slabs:
    """Bodies, one behind the other in large pieces of memory.

    New memory costs more than a copy does: the system clears each page when it is first touched.
    """

    _slabs: list[bytearray] = field(default_factory=list, repr=False)
    _room: memoryview = field(default=memoryview(b""), repr=False)

    def take(self, size: int) -> memoryview:
        """Give memory to read a body into; it is free again when the view and all made of it are gone."""
        if size > len(self._room):
            self._room = memoryview(b"")
            slab = self._free() if size <= _SLAB else None
            if slab is None:
                return memoryview(bytearray(size))
            self._room = memoryview(slab)
        taken, self._room = self._room[:size], self._room[size:]
        return taken

    def _free(self) -> bytearray | None:
        """Find a slab that no one holds; None where too many are held, perhaps by one body each."""
        for slab in self._slabs:
            if _is_free(slab):
                return slab
        if len(self._slabs) == _MOST:
            return None
        self._slabs.append(bytearray(_SLAB))
        return self._slabs[-1]


def _is_free(slab: bytearray) -> bool:
    """Tell whether no one holds a view: as long as someone does, a bytearray's size cannot be changed."""
    try:
        slab.append(slab.pop())
    except BufferError:
        return False
    return True


def binary(values: Sequence[bytes | memoryview | None]) -> pa.ChunkedArray:
    """Make a column of bytes; bodies that lie one behind the other in memory become one without a copy."""
    runs = _runs(values)
    if len(runs) > _RUNS:
        return pa.chunked_array([pa.array(values, pa.binary())])
    return pa.chunked_array([_as_it_lies(run) for run in runs], pa.binary())


def _runs(values: Sequence[bytes | memoryview | None]) -> list[list[pa.Buffer]]:
    """Cut values into runs that lie one behind the other; more than are of use where they do not."""
    runs: list[list[pa.Buffer]] = []
    end = -1
    for value in values:
        if value is None or len(value) < LARGE:
            return [[]] * (_RUNS + 1)
        buffer = pa.py_buffer(value)
        if buffer.address != end:
            runs.append([])
        if len(runs) > _RUNS:
            break
        runs[-1].append(buffer)
        end = buffer.address + buffer.size
    return runs


def _as_it_lies(run: Sequence[pa.Buffer]) -> pa.Array:
    first, *_ = run
    offsets = pa.array([0, *accumulate(buffer.size for buffer in run)], pa.int32())
    # The buffers are kept with the one that spans them all.
    whole = pa.foreign_buffer(first.address, offsets[-1].as_py(), list(run))
    return pa.Array.from_buffers(pa.binary(), len(run), [None, offsets.buffers()[1], whole])
