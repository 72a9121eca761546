"""The same models as laketag's taggers, for `laketag tag --with tagging:NAME`."""

from __future__ import annotations

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
        model = super().load(device)
        predict = model.predict

        def predict_counted(batch: list[Any]) -> pa.RecordBatch:
            predicted = predict(batch)
            labels.mark(len(batch))
            return predicted

        model.predict = predict_counted  # on the model itself, which has more than `predict` to be asked for
        return model


nsfw = Counted()
