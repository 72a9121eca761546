"""A tagger whose predictions are counted, and images that fail, or kill who looks at them, for a while."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa

from fakes import FakeModel

Some = tuple[int, int]
"""Numbers that have this remainder (second) when divided by that (first)."""


class Killed(BaseException):
    """The process is dead: nothing catches this, and nothing is written any more."""


@dataclass
class Weather:
    """What images do to a model at the moment, and what models were given so far."""

    failing: Some | None = None
    """Images that fail for now."""
    deadly: Some | None = None
    """Images that kill the process that looks at them."""
    given: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    """How often each image was predicted, by the tagger's label."""
    failed: set[bytes] = field(default_factory=set)
    """Images that failed some time."""
    killed: set[bytes] = field(default_factory=set)
    """Images that killed some time."""
    is_dead: bool = False
    """Whether a process has died, and was not replaced yet."""

    def reason(self, image: bytes) -> str | None:
        """Say why an image fails now; None where it does not."""
        if image.startswith(b"bad"):
            return "a bad image"
        return "not now" if _among(image, self.failing) else None

    def look_at(self, image: bytes, label: str) -> None:
        """Die of a deadly image; the dead see nothing."""
        if self.is_dead:
            raise Killed
        if _among(image, self.deadly):
            self.given[label, image] += 1
            self.killed.add(image)
            self.is_dead = True
            raise Killed


WEATHER = Weather()


@dataclass(frozen=True)
class Watched:
    """<NAME>: `label_of` the bytes."""

    name: str
    revision: str = "1"
    """A tagger of another one says the same, and is another tagger all the same."""
    batch_size: int = 3
    reads: ClassVar[tuple[str, ...]] = ("bytes",)

    @property
    def columns(self) -> pa.Schema:
        return pa.schema([(self.name.upper(), pa.int64())])

    @property
    def label(self) -> str:
        return self.name if self.revision == "1" else self.name + self.revision

    def identity(self) -> Mapping[str, str]:
        # By this key `adopt` knows another revision of the same model.
        return {"model": self.name, "version": self.revision}

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        for image in batch:
            WEATHER.look_at(image, self.label)
        reasons = [reason for image in batch if (reason := WEATHER.reason(image))]
        if reasons and len(batch) > 1:
            raise ValueError(reasons[0])  # the rows are tried one by one
        WEATHER.given.update((self.label, image) for image in batch)
        if reasons:
            WEATHER.failed.update(batch)
            raise ValueError(reasons[0])
        return pa.record_batch([pa.array(map(label_of, batch), pa.int64())], schema=self.columns)


def label_of(image: bytes) -> int:
    """Give what the tagger says of an image: a number that fits an int32, too."""
    return int.from_bytes(hashlib.sha256(image).digest()[:4], "big") >> 1


def image(number: int, edition: int) -> bytes:
    """Make an image that no other row has, and this one only in one edition."""
    return b"image %d %d" % (number, edition)


def _among(image: bytes, some: Some | None) -> bool:
    return some is not None and int(image.split()[1]) % some[0] == some[1]
