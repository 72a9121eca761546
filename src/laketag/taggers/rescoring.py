"""`aesthetic-head`: another head on vectors that `aesthetic` kept; no image is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from laketag.taggers.scoring import (
    ERROR_TAG,
    PUBLISHED,
    THRESHOLDS,
    Head,
    Vectors,
    check_thresholds,
    head_digest,
    is_head_here,
    label_fields,
    labels,
    read_head,
    settled_head,
)


@dataclass(frozen=True)
class AestheticHead:
    """Scores from a column of vectors."""

    embedding: str = "SIGLIP"
    """The column of vectors, as `aesthetic?embedding=` made it."""
    head: str = PUBLISHED
    """A `.pth` or a `.safetensors`."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """Above which a score is very aesthetic, aesthetic, displeasing."""
    prefix: str = "AESTHETIC_HEAD"
    """Of its columns; in lower case, its name."""

    batch_size: ClassVar[int] = 1024
    weights: ClassVar[str] = "the v2.5 head, from where it is published, or local"
    extra: ClassVar[str] = "aesthetic"
    modules: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    def __post_init__(self) -> None:
        """Refuse thresholds that cannot be.

        Raises:
            BadTagger: they are not three numbers, the highest first.
        """
        check_thresholds("aesthetic-head", self.thresholds)

    @property
    def name(self) -> str:
        """The prefix in lower case."""
        return self.prefix.lower()

    @property
    def reads(self) -> tuple[str, ...]:
        """The vectors."""
        return (self.embedding,)

    @property
    def columns(self) -> pa.Schema:
        """Score and tag."""
        return pa.schema(label_fields(self.prefix))

    @property
    def failed(self) -> Mapping[str, str]:
        """What columns of a failed row hold instead of null."""
        return {f"{self.prefix}_TAG": ERROR_TAG}

    def settled(self, device: str) -> AestheticHead:
        """Put in the head's path in full.

        Raises:
            BadTagger: there is no such file.
        """
        return replace(self, head=settled_head(self.head))

    def identity(self) -> Mapping[str, str]:
        """Say what determines the labels: the head and the thresholds.

        Raises:
            BadTagger: there is no such file.
        """
        return {
            "model": "head of the aesthetic predictor v2.5",
            "head_sha256": head_digest(self.head),
            "thresholds": ", ".join(repr(float(threshold)) for threshold in self.thresholds),
        }

    def to_download(self) -> tuple[str, ...]:
        """Name what the first run would download; asks nobody."""
        return () if is_head_here(self.head) else ("the v2.5 head",)

    def load(self, device: str) -> HeadModel:
        """Read the head; it runs on the CPU, whatever the device.

        Raises:
            MissingExtra: torch or safetensors is not installed.
            BadTagger: there is no such file, or it holds something else.
        """
        return HeadModel(self, read_head(self.head))


class HeadModel:
    """A loaded `AestheticHead`."""

    def __init__(self, tagger: AestheticHead, head: Head) -> None:
        """Take a tagger with its head."""
        self._tagger = tagger
        self._head = head

    def prepare(self, row: Mapping[str, Any]) -> Vectors:
        """Give the vector in float32; a row that has none, or one of another length, fails."""
        vector, wanted = row[self._tagger.embedding], self._head.weight.shape
        if vector is None:
            raise ValueError(f"null {self._tagger.embedding}")
        if np.shape(vector) != wanted:
            raise ValueError(
                f"{self._tagger.embedding} is no vector of {wanted[0]} numbers, as the head takes"
            )
        return np.asarray(vector, np.float32)

    def predict(self, batch: list[Vectors]) -> pa.RecordBatch:
        """Score and tag a batch."""
        columns = labels(self._head.scores(np.stack(batch)), self._tagger.thresholds)
        return pa.RecordBatch.from_arrays(columns, schema=self._tagger.columns)
