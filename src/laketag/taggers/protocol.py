"""What a tagger is: a model before it is loaded, and the model that it loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa


class Model(Protocol):
    """A loaded model. One per worker process."""

    def prepare(self, row: Mapping[str, Any]) -> Any:
        """Turn one row, its inputs by role, into what `predict` takes.

        Runs on the CPU and is called from many threads at once. `image` is a Pillow image in
        RGB, `bytes` the raw bytes, any other role the column's value. An exception fails this
        row alone, with the exception's text as its reason.
        """

    def predict(self, batch: list[Any]) -> pa.RecordBatch:
        """Label a batch: one row per input, in order, with exactly the tagger's columns.

        Called from one thread. A null or NaN in every column of a row, or an exception that
        persists when the row is tried alone, fails that row.
        """


@runtime_checkable
class Tagger(Protocol):
    """A model before it is loaded: a frozen dataclass that pickles, compares and prints."""

    @property
    def name(self) -> str:
        """Lower case; its error and digest columns are `<NAME>_ERROR` and `<NAME>_DIGEST`."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Roles: `image` (decoded), `bytes` (raw image), or the name of any other column."""

    @property
    def columns(self) -> pa.Schema:
        """Its label columns, all nullable, without the error and digest columns."""

    def load(self, device: str) -> Model:
        """Load the weights on a device (`cpu`, `cuda:0`); once per worker process."""
