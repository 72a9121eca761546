"""`index`: what makes filters, text search and vector search on a column fast."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from laketag.errors import ColumnError, WrongUsage
from laketag.lake import sql
from laketag.lake.changing import change
from laketag.lake.dataset import is_image_like, open_dataset, require_columns
from laketag.lake.explaining import explaining, first_line
from laketag.lake.location import Location
from laketag.lake.patience import is_of_the_store
from laketag.lake.transactions import is_conflict

if TYPE_CHECKING:
    from lance import LanceDataset

KINDS = ("btree", "bitmap", "text", "list", "vector")
"""What an index can be."""
_LANCES = {"btree": "BTREE", "bitmap": "BITMAP", "text": "INVERTED", "list": "LABEL_LIST"}
_SAMPLE = 10_000
_FEW_VALUES = 100
# Below this, product quantisation has too little to learn from, and looking at every vector is fast.
_LEAST_VECTORS = 5000


@dataclass(frozen=True)
class IndexReport:
    """An index that was built."""

    uri: str
    version: int
    """The dataset's version after it."""
    column: str
    kind: str
    """`btree`, `bitmap`, `text`, `list` or `vector`."""
    rows: int
    """Rows that it covers; those that come later are found without it."""
    bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag index --json` prints it."""
        return asdict(self)


@explaining
def index(
    uri: str | PathLike[str],
    column: str,
    kind: str | None = None,
    *,
    storage_options: Mapping[str, str] | None = None,
) -> IndexReport:
    """Build an index on a column, or build it again over the rows that came since.

    Args:
        uri: the dataset's.
        column: exact-case.
        kind: `btree` for ranges, `bitmap` for few values, `text` for words, `list` for members of lists,
            `vector` for neighbours; chosen by the column's type and values where None.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        WrongUsage: there is no such kind.
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column, or none of such a kind on a column of its type.
        CommitError: the dataset changed under every attempt.
    """
    started = time.monotonic()
    if kind is not None and kind not in KINDS:
        raise WrongUsage(f"there is no index {kind!r}; there is {', '.join(KINDS)}")
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location)
    require_columns(dataset.schema, [column])
    chosen = kind or _kind(dataset, column)
    if is_image_like(dataset.schema.field(column)):
        raise ColumnError(f"column {column!r} holds bytes, on which no index helps; index another column")
    if dataset.count_rows() == 0:
        raise ColumnError(f"{location.uri} has no rows to index; import some first")
    _built(location, column, chosen)
    dataset = open_dataset(location)
    [made] = [each for each in dataset.describe_indices() if each.name == _name(column)]
    return IndexReport(
        location.uri,
        dataset.version,
        column,
        chosen,
        int(made.num_rows_indexed),
        int(made.total_size_bytes or 0),
        time.monotonic() - started,
    )


def _built(location: Location, column: str, kind: str) -> None:
    def build(dataset: LanceDataset) -> None:
        require_columns(dataset.schema, [column])
        try:
            _build(dataset, column, kind)
        except (ValueError, TypeError, NotImplementedError, OSError) as error:
            if is_conflict(error) or is_of_the_store(error):
                raise
            held = dataset.schema.field(column).type
            raise ColumnError(
                f"no {kind} index on column {column!r}, which is {held}: {first_line(error)}"
            ) from error

    def is_built(before: LanceDataset, after: LanceDataset) -> bool:
        return bool(_segments(after, column, kind) - _segments(before, column, kind))

    change(location, build, is_built)


def _segments(dataset: LanceDataset, column: str, kind: str) -> set[str]:
    """Name the parts of a column's index of a kind; each has a name of its own, in every build."""
    return {
        str(segment.uuid)
        for each in dataset.describe_indices()
        if each.name == _name(column) and _is(each.index_type, kind)
        for segment in each.segments
    }


def _is(lances: str, kind: str) -> bool:
    """Whether Lance's name of an index's type, which it spells in two ways, is that of a kind."""
    if kind == "vector":
        return lances.startswith("IVF_")
    return lances.upper() == _LANCES[kind].replace("_", "")


def _build(dataset: LanceDataset, column: str, kind: str) -> None:
    name = _name(column)
    if kind == "vector":
        held = dataset.schema.field(column).type
        if not pa.types.is_fixed_size_list(held):
            raise ValueError("a vector is a list of fixed size")
        dimension = held.list_size
        vectors = dataset.count_rows(filter=f"{sql.quote(column)} is not null")
        if vectors < _LEAST_VECTORS or dimension % 16:
            dataset.create_index(column, "IVF_FLAT", name=name, replace=True, num_partitions=1)
        else:
            dataset.create_index(
                column, "IVF_PQ", name=name, replace=True, num_sub_vectors=max(1, dimension // 16)
            )
        return
    dataset.create_scalar_index(column, cast(Any, _LANCES[kind]), name=name, replace=True)


def _kind(dataset: LanceDataset, column: str) -> str:
    held = dataset.schema.field(column).type
    if pa.types.is_fixed_size_list(held):
        return "vector"
    if pa.types.is_list(held) or pa.types.is_large_list(held):
        return "list"
    if pa.types.is_boolean(held):
        return "bitmap"
    if not (pa.types.is_string(held) or pa.types.is_large_string(held)):
        return "btree"
    sample = dataset.scanner(columns=[column], limit=_SAMPLE).to_table()[column].drop_null()
    if pc.count_distinct(sample).as_py() <= _FEW_VALUES:
        return "bitmap"
    words = pc.mean(pc.cast(pc.match_substring_regex(sample, r"\w\s+\w"), pa.float64())).as_py()
    return "text" if words and words > 0.5 else "btree"


def _name(column: str) -> str:
    return f"{column}_idx"
