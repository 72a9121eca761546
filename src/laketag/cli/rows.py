"""Record batches as people and programs want them: a table, JSON lines, files."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from laketag.cli import text
from laketag.cli.printing import plain, to_json
from laketag.errors import LaketagError

if TYPE_CHECKING:
    import pyarrow as pa

# So many rows decide how wide the columns are; the others flow.
_MEASURED = 200
_WIDEST = 60


def print_objects(batches: Iterator[pa.RecordBatch]) -> None:
    """Print one JSON object a row."""
    for row in _rows(batches):
        sys.stdout.write(to_json(row) + "\n")


def print_table(batches: Iterator[pa.RecordBatch]) -> None:
    """Print aligned columns; on a terminal those that fit, with the others' names after them."""
    first = next(batches)
    names = first.schema.names
    lines = (_cells(row) for row in _rows(chain([first], batches)))
    head = list(islice(lines, _MEASURED))
    widths = [min(_WIDEST, max(map(text.width_of, column))) for column in zip(names, *head, strict=True)]
    if sys.stdout.isatty():
        widths = text.fitted(widths, shutil.get_terminal_size().columns)
    fit = len(widths)
    numbers = [at for at, field in enumerate(first.schema) if _is_number(field)]
    rows = 0
    for number, line in enumerate(chain([names], head, lines)):
        rows = number  # the head is none
        cells = [text.cut(cell, width) for cell, width in zip(line, widths, strict=False)]
        sys.stdout.write(text.aligned(cells, widths, numbers) + "\n")
    sys.stdout.flush()
    left_out = f"; not shown for want of width: {', '.join(names[fit:])}" if fit < len(names) else ""
    typer.echo(f"({text.count(rows, 'row')}{left_out})", err=True)


def write(batches: Iterator[pa.RecordBatch], file: Path) -> int:
    """Write a file of the kind that its ending says, and count the rows.

    Nothing of that name is left behind when it fails half way.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        rows = WRITERS[file.suffix](batches, part)
        part.replace(file)
    except OSError as error:
        raise LaketagError(
            f"--output {file} cannot be written: {error.strerror or error}; name another file"
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return rows


def _write_parquet(batches: Iterator[pa.RecordBatch], file: Path) -> int:
    import pyarrow.parquet as pq

    first = next(batches)
    rows = 0
    with pq.ParquetWriter(file, first.schema) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)
            rows += len(batch)
    return rows


def _write_csv(batches: Iterator[pa.RecordBatch], file: Path) -> int:
    first = next(batches)
    rows = 0
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(first.schema.names)
        for row in _rows(chain([first], batches)):
            # Nested values have no form of their own in a CSV.
            values = [plain(value) for value in row.values()]
            writer.writerow([to_json(v) if isinstance(v, list | dict) else v for v in values])
            rows += 1
    return rows


def _write_jsonl(batches: Iterator[pa.RecordBatch], file: Path) -> int:
    rows = 0
    with file.open("w", encoding="utf-8") as out:
        for row in _rows(batches):
            out.write(to_json(row) + "\n")
            rows += 1
    return rows


WRITERS: dict[str, Callable[[Iterator[Any], Path], int]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
}
"""By ending, what `--output` can write."""


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    from laketag.times import in_pythons_times

    for batch in map(in_pythons_times, batches):
        # A slice at a time: a batch of images as Python values would be in memory a second time.
        for start in range(0, len(batch), _MEASURED):
            yield from batch.slice(start, _MEASURED).to_pylist()


def _cells(row: dict[str, Any]) -> list[str]:
    return [_cell(value) for value in row.values()]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{text.size(len(value))}>"
    if isinstance(value, float):
        return f"{value:.6g}"
    shown = plain(value)
    written = to_json(shown) if isinstance(shown, list | dict) else str(shown)
    return text.printable(written)


def _is_number(field: pa.Field) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
