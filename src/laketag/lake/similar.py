"""Rows that look like a row: the nearest by a column of vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.types as kinds

from laketag.errors import ColumnError
from laketag.lake import sql
from laketag.lake.dataset import require_columns
from laketag.lake.presence import KEY

if TYPE_CHECKING:
    from lance import LanceDataset

# An index keeps vectors roughly: it is asked for so many more, which are compared as they are.
_REFINE = 10
_PROBES = 20


def is_vector(field: pa.Field) -> bool:
    """Whether a column holds vectors."""
    return bool(kinds.is_fixed_size_list(field.type) and kinds.is_floating(field.type.value_type))


def vector_column(schema: pa.Schema, asked: str | None = None) -> str:
    """Find the column of vectors: the one asked for, or the only one.

    Raises:
        ColumnError: there is none, there are several, or the one asked for holds none.
    """
    candidates = [field.name for field in schema if is_vector(field)]
    if asked is not None:
        require_columns(schema, [asked])
        if asked in candidates:
            return asked
        raise ColumnError(f"column {asked!r} holds {schema.field(asked).type}, not vectors of fixed length")
    if len(candidates) == 1:
        return str(candidates[0])
    if not candidates:
        raise ColumnError(
            "no column holds vectors; make one with `laketag tag --with aesthetic?embedding=SIGLIP`"
        )
    raise ColumnError(f"several columns hold vectors ({', '.join(candidates)}); choose one with --vector")


def nearest(dataset: LanceDataset, key: str, column: str, *, limit: int) -> tuple[dict[str, Any], str]:
    """Say how a scanner looks for the rows nearest to that of a key, and the filter that leaves itself out.

    Of several rows of the key it is the first; the others may well be other images.

    Raises:
        ColumnError: there is no row of the key, or it has no vector.
    """
    require_columns(dataset.schema, [KEY])
    is_it = f"{sql.quote(KEY)} = {sql.literal(key)}"
    found = dataset.scanner(columns=[column], filter=is_it, limit=1, with_row_id=True).to_table()
    vectors = found[column].combine_chunks()
    if not len(vectors):
        raise ColumnError(f"no row has the key {key!r}; `laketag query --columns {KEY}` lists them")
    if vectors.null_count:
        raise ColumnError(f"the row {key!r} has no vector in {column!r}; its error column says why")
    return near(column, vectors.flatten(), limit=limit), f"_rowid != {found['_rowid'][0]}"


def near(column: str, vector: pa.Array, *, limit: int) -> dict[str, Any]:
    """Say how a scanner looks for the rows nearest to a vector."""
    return {
        "column": column,
        "q": vector.to_numpy(zero_copy_only=False),
        "k": max(1, limit),  # none is not taken; the scan's own limit leaves it out
        "nprobes": _PROBES,
        "refine_factor": _REFINE,
    }
