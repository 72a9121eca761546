"""Rows for a pipeline, their labels, and a tagger that prepares as it is told."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa
from PIL import Image

from laketag.taggers.pipeline import Pipeline
from laketag.taggers.rows import Row


def rows(values: list[bytes | None], first: int = 0) -> list[Row]:
    return [Row(first + i, {"bytes": value, "image": value}) for i, value in enumerate(values)]


def numbered(count: int) -> list[bytes | None]:
    return [b"row %d" % i for i in range(count)]


def labelled(pipeline: Pipeline, values: list[bytes | None]) -> list[dict[str, Any]]:
    ((_, (labels,)),) = pipeline.run([("only", rows(values))])
    result: list[dict[str, Any]] = labels.batch.to_pylist()
    assert labels.positions.tolist() == list(range(len(values)))
    return result


def jpeg(width: int = 8, height: int = 8, level: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Preparing:
    name: ClassVar[str] = "preparing"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema([("DOUBLE", pa.int32())])

    def load(self, device: str) -> Any:
        return self

    def prepare(self, row: Any) -> int:
        return int(row["bytes"])

    def predict(self, batch: list[int]) -> pa.RecordBatch:
        return pa.record_batch({"DOUBLE": [2 * value for value in batch]})
