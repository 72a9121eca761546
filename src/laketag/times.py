"""Arrow's times as Python knows them, to the microsecond: of finer ones Arrow gives Python no row at all."""

from __future__ import annotations

from typing import TypeVar

import pyarrow as pa

R = TypeVar("R", pa.RecordBatch, pa.Table)


def in_pythons_times(rows: R) -> R:
    """Leave out what is finer than a microsecond, inside of lists and structs, too."""
    schema = pa.schema([field.with_type(_in_microseconds(field.type)) for field in rows.schema])
    return rows if schema.types == rows.schema.types else rows.cast(schema, safe=False)


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_in_microseconds(each.type)) for each in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_field.with_type(_in_microseconds(kind.value_type))
        if pa.types.is_large_list(kind):
            return pa.large_list(inner)
        return pa.list_(inner, kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
    if getattr(kind, "unit", None) != "ns":
        return kind
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    return pa.duration("us") if pa.types.is_duration(kind) else pa.time64("us")
