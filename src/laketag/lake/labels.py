"""Label columns: what is recorded of their maker tells them from all others."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

SQL = "sql"
"""The tagger, so to speak, of a column that `add-column` made."""
_KEY = "laketag"


def recorded(maker: Mapping[str, str]) -> dict[str, str]:
    """Give the field metadata that records a maker."""
    return {_KEY: json.dumps(dict(maker), sort_keys=True)}


def made_by(field: pa.Field) -> dict[str, str]:
    """Read what is recorded of a column's maker; empty where nothing is."""
    return dict(json.loads((field.metadata or {}).get(_KEY.encode(), b"{}")))


def provenance(schema: pa.Schema) -> dict[str, dict[str, str]]:
    """Give what made each label column; columns that laketag did not make are left out."""
    return {field.name: made_by(field) for field in schema if is_label(field)}


def is_label(field: pa.Field) -> bool:
    """Whether laketag made a column: labels, reasons and digests of a tagger, or values of SQL."""
    return _KEY.encode() in (field.metadata or {})


def is_digest(field: pa.Field) -> bool:
    """Whether a column holds digests of what labels were made from."""
    return is_label(field) and bool(field.name.endswith("_DIGEST"))


def is_error(field: pa.Field) -> bool:
    """Whether a column holds the reasons why rows have no label."""
    return is_label(field) and bool(field.name.endswith("_ERROR"))
