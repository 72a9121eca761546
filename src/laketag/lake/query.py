"""`query`: rows of a dataset, by a filter or by full SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from laketag.errors import BadSQL, ColumnError, WrongUsage
from laketag.lake import sql
from laketag.lake.dataset import is_image_like, open_dataset, require_columns, require_names
from laketag.lake.explaining import explaining, sql_explained
from laketag.lake.labels import is_digest
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.reading import blob_handling, fetch, row_bytes, sparing, streaming
from laketag.lake.similar import is_vector, nearest, vector_column

if TYPE_CHECKING:
    from lance import LanceDataset


_SIMILAR = 10  # rows, where no limit says how many


@dataclass(frozen=True)
class Selection:
    """Which rows and columns, in which order."""

    where: str | None = None
    """A filter; names are columns, written as `show` does."""
    columns: tuple[str, ...] | None = None
    """All but bytes, vectors and digests where None."""
    order_by: str | None = None
    """A column, with `desc` after it for the highest first; nulls come last."""
    limit: int | None = None
    at: int | str | None = None
    """A version's number, or its name; the latest where None."""
    sql: str | None = None
    """A whole query over `dataset`, instead of where, columns, order and limit."""
    similar_to: str | None = None
    """The `__key__` of a row: the rows nearest to it (10 where there is no limit), with `_distance`."""
    vector: str | None = None
    """The column of vectors that `similar_to` compares; the only one where None."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: no column, or parts that exclude each other.
        """
        require_names(self.columns)
        if self.limit is not None and not 0 <= self.limit < 1 << 63:  # Lance takes no larger one
            raise WrongUsage(f"--limit is {self.limit}; give a whole number from 0 on")
        alone = (self.where, self.columns, self.order_by, self.similar_to, self.vector)
        if self.sql is not None and (any(alone) or self.limit is not None):
            raise WrongUsage("a whole query stands alone; put filter, columns, order and limit into its text")
        if self.similar_to is not None and self.order_by is not None:
            raise WrongUsage("what is similar comes in the order of its distance; leave the order out")


@explaining
def query(
    uri: str | PathLike[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    selection: Selection = Selection(),
) -> Iterator[pa.RecordBatch]:
    """Stream the selected rows; at least one batch, empty where no row is selected.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column, or rows cannot be put in order by it.
        BadSQL: Lance cannot run the filter or the query, or it would do more than read.
        LinkBroken: a tar that rows point into is gone, or was changed, and images are asked for.
    """
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location, selection.at)
    asked = selection.columns or ()
    if any(is_image_like(field) for field in dataset.schema if field.name in asked):
        require_links(location)
    reader = (
        _by_sql(location, dataset, selection) if selection.sql is not None else _by_filter(dataset, selection)
    )
    return _stream(location.uri, reader, selection)


def default_columns(schema: pa.Schema) -> list[str]:
    """Name what people want to see: no bytes, no vectors, no digests."""
    return [f.name for f in schema if not (is_image_like(f) or is_vector(f) or is_digest(f))]


def _by_filter(dataset: LanceDataset, selection: Selection) -> pa.RecordBatchReader:
    columns = list(selection.columns) if selection.columns is not None else default_columns(dataset.schema)
    require_columns(dataset.schema, columns)
    where = selection.where and sql.for_filter(selection.where, dataset.schema.names)
    options: dict[str, Any] = {"limit": selection.limit}
    has_images = any(is_image_like(dataset.schema.field(name)) for name in columns)
    read = columns
    if selection.similar_to is not None:
        where, options = _similar(dataset, selection, where)
        columns.append("_distance")
    elif selection.order_by is not None:
        ordered, ordering = _ordering(dataset.schema, selection.order_by)
        options["order_by"] = ordering if selection.limit != 0 else None  # of no rows, Lance makes no order
        # Lance orders by what it reads only, and holds all of that: images are read afterwards.
        read = [ordered] if has_images else list(dict.fromkeys([*columns, ordered]))
        options["with_row_address"] = has_images
    elif has_images:
        options |= streaming(row_bytes(dataset))
    options |= sparing(dataset, where)
    with sql_explained(dataset.uri, "filter", selection.where):
        reader = dataset.scanner(
            columns=read, filter=where, blob_handling=blob_handling(dataset, read), **options
        ).to_reader()
    if read is columns:
        return reader
    shown = dataset.scanner(columns=columns, blob_handling="all_binary").projected_schema
    batches = _fetched(dataset, columns, reader) if has_images else (each.select(columns) for each in reader)
    return pa.RecordBatchReader.from_batches(shown, batches)


def _fetched(
    dataset: LanceDataset, columns: list[str], reader: pa.RecordBatchReader
) -> Iterator[pa.RecordBatch]:
    """Read the rows whose addresses come, a few at a time."""
    step = streaming(row_bytes(dataset))["batch_size"]
    for batch in reader:
        addresses = batch["_rowaddr"].to_numpy().astype(np.int64)
        for start in range(0, len(addresses), step):
            yield from fetch(dataset, addresses[start : start + step], columns).select(columns).to_batches()


def _similar(dataset: LanceDataset, selection: Selection, where: str | None) -> tuple[str, dict[str, Any]]:
    """Give the filter and the scanner's options for the rows nearest to one, itself left out."""
    key = selection.similar_to or ""
    column = vector_column(dataset.schema, selection.vector)
    limit = _SIMILAR if selection.limit is None else selection.limit
    near, others = nearest(dataset, key, column, limit=limit)
    wanted = f"({where}) and {others}" if where else others
    return wanted, {"nearest": near, "prefilter": True, "limit": limit}


def _ordering(schema: pa.Schema, text: str) -> tuple[str, list[Any]]:
    """Give the column of an order, and the order as Lance takes it."""
    from lance.dataset import ColumnOrdering

    name, descending = order_of(schema, text)
    return name, [ColumnOrdering(name, ascending=not descending, nulls_first=False)]


def order_of(schema: pa.Schema, text: str) -> tuple[str, bool]:
    """Tell the column of an order, and whether the highest comes first.

    Raises:
        ColumnError: there is no such column, or rows cannot be put in order by it.
        WrongUsage: more follows the column than asc or desc.
    """
    name, direction = text.strip(), "asc"
    if name not in schema.names:  # a name may have blanks of its own
        found = re.fullmatch(r"(.+?)\s+(asc|desc)", name, re.IGNORECASE)
        name, direction = found.groups() if found else (name, direction)
        name = name.removeprefix('"').removesuffix('"')
    if name not in schema.names and name.partition(" ")[0] in schema.names:
        raise WrongUsage(f"the order {text!r} is not a column with asc or desc after it")
    require_columns(schema, [name])
    if not can_order(schema.field(name)):
        raise ColumnError(f"rows cannot be put in order by {name!r}, which is {schema.field(name).type}")
    return name, direction.lower() == "desc"


def can_order(field: pa.Field) -> bool:
    """Whether rows can be put in order by a column."""
    return not (is_image_like(field) or pa.types.is_nested(field.type))


def _by_sql(location: Location, dataset: LanceDataset, selection: Selection) -> pa.RecordBatchReader:
    written = selection.sql or ""
    if not sql.is_query(written):
        raise BadSQL(f"{written!r} is not a query; it must begin with select, with, values or explain")
    text = sql.for_query(written, dataset.schema.names)
    with sql_explained(dataset.uri, "query", written):
        planned = dataset.sql(text).blob_handling("all_binary").build().to_stream_reader()
        images = [field.name for field in planned.schema if is_image_like(field)]
        if images:
            require_links(location)
        query = dataset.sql(text).blob_handling("all_binary" if images else blob_handling(dataset, ()))
        if few := streaming(row_bytes(dataset)) if images else sparing(dataset, written):
            query = query.batch_size(few["batch_size"])
        return query.build().to_stream_reader()


def _stream(uri: str, reader: pa.RecordBatchReader, selection: Selection) -> Iterator[pa.RecordBatch]:
    asked = ("filter", selection.where) if selection.sql is None else ("query", selection.sql)
    seen = 0
    with sql_explained(uri, *asked):
        for batch in reader:
            if len(batch):
                seen += len(batch)
                yield batch
    if not seen:
        yield pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in reader.schema], schema=reader.schema)
