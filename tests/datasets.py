"""Datasets that tests make for themselves: small rows, every way of storing an image column."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.blob import blob_array, blob_field


@dataclass(frozen=True)
class Storage:
    """How the image column is stored."""

    kind: str
    version: str
    stable_row_ids: bool

    def __str__(self) -> str:
        return f"{self.kind}-{self.version}-{'stable' if self.stable_row_ids else 'unstable'}"


STORAGES = [
    Storage("binary", "2.0", False),
    Storage("binary", "2.2", True),
    Storage("large_binary", "2.1", False),
    Storage("blob-v1", "2.0", False),
    Storage("blob-v1", "2.1", True),
    Storage("blob-v2", "2.2", True),
]
PLAIN = Storage("binary", "2.2", True)


def image(number: int) -> bytes:
    """Make the bytes of the image of a row; every row's differ."""
    return b"image %d " % number * 20


def table(numbers: range, storage: Storage = PLAIN) -> pa.Table:
    """Make rows with `jpg` and `number`."""
    images = [image(number) for number in numbers]
    ids = pa.array(list(numbers), pa.int64())
    if storage.kind == "blob-v2":
        schema = pa.schema([blob_field("jpg"), pa.field("number", pa.int64())])
        return pa.table([blob_array(images), ids], schema=schema)
    kind = pa.binary() if storage.kind == "binary" else pa.large_binary()
    metadata = {"lance-encoding:blob": "true"} if storage.kind == "blob-v1" else None
    schema = pa.schema([pa.field("jpg", kind, metadata=metadata), pa.field("number", pa.int64())])
    return pa.table([pa.array(images, kind), ids], schema=schema)


def make(
    folder: Path, rows: int = 300, *, storage: Storage = PLAIN, rows_per_fragment: int = 100
) -> lance.LanceDataset:
    """Write a dataset that laketag did not write."""
    return lance.write_dataset(
        table(range(rows), storage),
        str(folder),
        data_storage_version=storage.version,
        enable_stable_row_ids=storage.stable_row_ids,
        max_rows_per_file=rows_per_fragment,
    )


PARITY = "case when number % 2 = 0 then 'even' else 'odd' end"
"""In SQL, what `parity` gives."""


def parity(number: int) -> str:
    """Say whether a row's number is even."""
    return "odd" if number % 2 else "even"


def values(folder: Path, name: str) -> dict[int, Any]:
    """Read a column by row number, after validating the dataset."""
    dataset = lance.dataset(str(folder))
    dataset.validate()
    rows = dataset.to_table(columns=["number", name]).to_pylist()
    assert len({row["number"] for row in rows}) == len(rows), "a row is there twice"
    return {row["number"]: row[name] for row in rows}


def labels(folder: Path) -> dict[int, str | None]:
    """Read the label of `DigestLabel` by row number, after validating the dataset."""
    return values(folder, "SHA256")


def right_label(number: int) -> str:
    """Give what `DigestLabel` must say of a row."""
    return hashlib.sha256(image(number)).hexdigest()


def staged_files(folder: Path) -> list[Path]:
    """List the staged labels and the attempt markers below a dataset."""
    return [path for path in (folder / "_laketag").rglob("*.lance") if path.parent.name != "checked"]
