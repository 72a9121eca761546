"""What goes into the pipeline and what comes out: rows of raw inputs, and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Row:
    """One row's raw inputs."""

    position: int
    """The caller's number, given back untouched."""
    inputs: Mapping[str, Any]
    """Raw value by role; `image` and `bytes` are bytes or None, others the column's value."""
    wanted_by: tuple[int, ...] | None = None
    """Indexes of the taggers that want it; None: all."""


@dataclass(frozen=True)
class Labels:
    """What one tagger made of one chunk, or of some rows of it, in the order of the chunk's rows."""

    positions: npt.NDArray[np.int64]
    batch: pa.RecordBatch
    """The tagger's columns, `<NAME>_ERROR` and `<NAME>_DIGEST`; as many rows as positions."""
    is_whole: bool = True
    """False where its last rows are not here: they follow, or `stop` cut them off."""


@dataclass
class Stats:
    """Where a pipeline's time went. Seconds; those of the threads add up over all threads."""

    predicted: int = 0
    """Rows that were given to a tagger's `predict` and came back, times taggers."""
    seconds: float = 0.0
    """From the start of a run to its end."""
    wait_seconds: float = 0.0
    """Spent waiting for prepared rows: reading and decoding are the slower side."""
    predict_seconds: float = 0.0
    """Spent in `predict`."""
    busy_seconds: float = 0.0
    """How long the models' devices were at work, as far as the models can tell."""
    decode_seconds: float = 0.0
    """Spent decoding, in the threads."""
    prepare_seconds: float = 0.0
    """Spent in `prepare` and on digests, in the threads."""
    thread_seconds: float = 0.0
    """What the decoding threads had: their number times `seconds`."""

    def plus(self, other: Stats) -> Stats:
        """Add up."""
        return Stats(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(Stats)})

    def since(self, before: Stats) -> Stats:
        """Subtract what was before."""
        return Stats(**{f.name: getattr(self, f.name) - getattr(before, f.name) for f in fields(Stats)})


def reason(error: BaseException) -> str:
    """Put an exception into one short line: its type and its text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
