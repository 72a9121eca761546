"""Taggers that do one thing, on purpose, so that a test can see what the line makes of it.

All read raw bytes, so that rows need not be images. Each is a value that pickles by reference: workers
must be able to import this module.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

Predict = Callable[[list[bytes]], pa.RecordBatch]

_BYTES = pa.schema([("BYTES", pa.int64())])


@dataclass(frozen=True)
class FakeModel:
    """A loaded fake: raw bytes as they are, then one function."""

    function: Predict

    def prepare(self, row: Mapping[str, Any]) -> bytes:
        value: bytes = row["bytes"]
        return value

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return self.function(batch)


@dataclass(frozen=True)
class ByteLength:
    """BYTES: the number of bytes."""

    batch_size: int = 32
    name: ClassVar[str] = "bytelength"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return pa.record_batch([pa.array([len(value) for value in batch], pa.int64())], schema=_BYTES)


@dataclass(frozen=True)
class DigestLabel:
    """SHA256 and SHA: the sha256 of the bytes, so that every row's label can be checked."""

    batch_size: int = 32
    name: ClassVar[str] = "digestlabel"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("SHA256", pa.string()), ("SHA", pa.int64())])

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return pa.record_batch(
            [pa.array([sha256_of(v) for v in batch]), pa.array([sha_of(v) for v in batch], pa.int64())],
            schema=self.columns,
        )


@dataclass(frozen=True)
class SlowTagger:
    """BYTES, after a while: a batch takes as long as it is told."""

    seconds_per_batch: float = 0.1
    batch_size: int = 32
    name: ClassVar[str] = "slow"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        time.sleep(self.seconds_per_batch)
        return ByteLength().predict(batch)


@dataclass(frozen=True)
class RaisesOn:
    """BYTES; raises where a row of the batch contains the marker, or on the n-th call of all processes.

    Calls are counted, from 1 on, as lines of a file in `folder`, so that they are counted across processes.
    """

    marker: bytes = b""
    nth: int = 0
    folder: str = ""
    batch_size: int = 32
    name: ClassVar[str] = "raises"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if self.marker and any(self.marker in value for value in batch):
            raise ValueError(f"a row with {self.marker.decode()}")
        if self.nth and _count(Path(self.folder) / "calls", "call\n") == self.nth:
            raise ValueError(f"call {self.nth}")
        return ByteLength().predict(batch)


@dataclass(frozen=True)
class FailsAtFirst:
    """BYTES: as `ByteLength`, but every row fails until there is a file `mended` in the folder."""

    folder: str
    batch_size: int = 32
    name: ClassVar[str] = "mended"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def identity(self) -> Mapping[str, str]:
        return {"model": self.folder}

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if not Path(self.folder, "mended").exists():
            raise RuntimeError("not mended yet")
        return pa.record_batch([pa.array([len(value) for value in batch], pa.int64())], schema=_BYTES)


@dataclass(frozen=True)
class AbortsOn:
    """BYTES; ends its process, as a native crash does, where a row contains the marker."""

    marker: bytes
    batch_size: int = 32
    name: ClassVar[str] = "aborts"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if any(self.marker in value for value in batch):
            os.abort()
        return ByteLength().predict(batch)


@dataclass(frozen=True)
class ToldWithItsWorker:
    """BYTES; the first call kills its process, in the second one all processes are told to stop."""

    folder: str
    batch_size: int = 32
    name: ClassVar[str] = "told"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        call = _count(Path(self.folder) / "calls", "call\n")
        if call == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if call == 2:
            for process in (os.getppid(), os.getpid()):
                os.kill(process, signal.SIGTERM)
        return ByteLength().predict(batch)


@dataclass(frozen=True)
class WrongRows:
    """BYTES, with so many rows too many (or too few), where a row contains the marker (b"": always)."""

    by: int = -1
    marker: bytes = b""
    batch_size: int = 32
    name: ClassVar[str] = "wrongrows"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        if not any(self.marker in value for value in batch):
            return ByteLength().predict(batch)
        return ByteLength().predict((batch * 2)[: len(batch) + self.by])


@dataclass(frozen=True)
class ReturnsNaN:
    """SCORE: the number of bytes; NaN where a row contains the marker."""

    marker: bytes = b""
    batch_size: int = 32
    name: ClassVar[str] = "returnsnan"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("SCORE", pa.float32())])

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        scores = [float("nan") if self.marker in value else float(len(value)) for value in batch]
        return pa.record_batch([pa.array(scores, pa.float32())], schema=self.columns)


@dataclass(frozen=True)
class CountingTagger:
    """SHA: as `DigestLabel`; each predicted row is one line, its label, in a file per process in `folder`."""

    folder: str
    seconds_per_batch: float = 0.0
    batch_size: int = 32
    name: ClassVar[str] = "counting"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("SHA", pa.int64())])

    def identity(self) -> Mapping[str, str]:
        return {"model": "counting", "folder": self.folder}

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        time.sleep(self.seconds_per_batch)
        labels = [sha_of(value) for value in batch]
        _count(Path(self.folder) / f"predicted-{os.getpid()}", "".join(f"{label}\n" for label in labels))
        return pa.record_batch([pa.array(labels, pa.int64())], schema=self.columns)


def predicted(folder: str | Path) -> list[int]:
    """List the labels that `CountingTagger` made in this folder, in all processes."""
    files = sorted(Path(folder).glob("predicted-*"))
    return [int(line) for file in files for line in file.read_text().split()]


def sha256_of(value: bytes) -> str:
    """Give `DigestLabel`'s SHA256 of a row."""
    return hashlib.sha256(value).hexdigest()


def sha_of(value: bytes) -> int:
    """Give `DigestLabel`'s and `CountingTagger`'s SHA of a row."""
    return int.from_bytes(hashlib.sha256(value).digest()[-8:], "big", signed=True)


def _count(file: Path, text: str) -> int:
    """Append in one write, which processes do not interleave, and count the lines so far."""
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, text.encode())
        return os.lseek(handle, 0, os.SEEK_CUR) // len(text) if text else 0
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Weighty:
    """BYTES, after a while; its weights are a file, which is read where they are loaded."""

    file: str
    seconds_per_batch: float = 0.0
    batch_size: int = 32
    name: ClassVar[str] = "weighty"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def identity(self) -> Mapping[str, str]:
        return {"model": "weighty"}

    def load(self, device: str) -> FakeModel:
        Path(self.file).read_bytes()
        return SlowTagger(self.seconds_per_batch).load(device)


@dataclass(frozen=True)
class NeedsModule:
    """BYTES; it imports a module where it is loaded."""

    module: str
    batch_size: int = 32
    name: ClassVar[str] = "needsmodule"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = _BYTES

    def load(self, device: str) -> FakeModel:
        importlib.import_module(self.module)
        return FakeModel(ByteLength().predict)


@dataclass(frozen=True)
class CaptionLength:
    """CAPTION_LENGTH: the number of letters in the caption; of a row's two inputs it wants both."""

    reads: tuple[str, ...] = ("caption", "bytes")
    batch_size: int = 32
    name: ClassVar[str] = "captions"
    columns: ClassVar[pa.Schema] = pa.schema([("CAPTION_LENGTH", pa.int64())])

    def load(self, device: str) -> CaptionModel:
        return CaptionModel()


@dataclass(frozen=True)
class CaptionModel:
    """A loaded `CaptionLength`."""

    def prepare(self, row: Mapping[str, Any]) -> str:
        caption: str = row["caption"]
        return caption

    def predict(self, batch: list[str]) -> pa.RecordBatch:
        return pa.record_batch([pa.array(map(len, batch), pa.int64())], schema=CaptionLength.columns)
