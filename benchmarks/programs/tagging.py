"""The same models as laketag's taggers, for `laketag tag --with tagging:NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import labels
import pyarrow as pa

import laketag
from laketag.taggers.nsfw import Nsfw

_SCORE = {"SCORE": pa.float64()}


@laketag.tagger(columns=_SCORE, reads=("bytes",), name="trivial")
def trivial(images: list[bytes]) -> dict[str, list[float]]:
    """Give numbers that only these bytes have."""
    return {"SCORE": [labels.trivial(image) for image in images]}


@laketag.tagger(columns=_SCORE, reads=("bytes",), name="slow")
def slow(images: list[bytes]) -> dict[str, list[float]]:
    """Do the same, and take a while."""
    return {"SCORE": [labels.slow(image) for image in images]}


@laketag.tagger(columns={"GLOW": pa.float64()})
def glow(images: list[Any]) -> dict[str, list[float]]:
    """Tell how bright images are."""
    return {"GLOW": [labels.brightness(image) for image in images]}


@laketag.tagger(columns={"SHINE": pa.float64()})
def shine(images: list[Any]) -> dict[str, list[float]]:
    """Tell the same, as another label."""
    return {"SHINE": [labels.brightness(image) for image in images]}


@dataclass(frozen=True)
class Counted(Nsfw):
    """The built-in nsfw, whose predictions are counted."""

    def load(self, device: str) -> Any:
        """Load the weights."""
        return _Counted(super().load(device))


@dataclass(frozen=True)
class _Counted:
    model: Any

    def prepare(self, row: Mapping[str, Any]) -> Any:
        return self.model.prepare(row)

    def predict(self, batch: list[Any]) -> pa.RecordBatch:
        predicted = self.model.predict(batch)
        labels.mark(len(batch))
        return predicted


nsfw = Counted()
