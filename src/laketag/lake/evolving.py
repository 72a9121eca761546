"""Schema evolution: columns come by SQL, go, and change name or type; no image is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from laketag.errors import ColumnError, WrongUsage
from laketag.lake.changing import change, set_field_metadata
from laketag.lake.committing import FragmentColumns, commit_columns
from laketag.lake.dataset import field_id, image_columns, is_image_like, open_dataset, require_columns
from laketag.lake.deriving import Derivation
from laketag.lake.explaining import explaining, first_line
from laketag.lake.labels import SQL, recorded
from laketag.lake.location import Location
from laketag.lake.patience import is_of_the_store
from laketag.lake.presence import KEY, URL
from laketag.lake.transactions import COLUMNS_KEY, JOB_KEY, is_conflict

if TYPE_CHECKING:
    from lance import LanceDataset


@dataclass(frozen=True)
class EvolveReport:
    """What a change of the schema left."""

    uri: str
    version: int
    """The dataset's version after it."""
    columns: tuple[str, ...]
    """All columns of that version, in order."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as the command prints it with `--json`."""
        return asdict(self)


@explaining
def add_column(
    uri: str | PathLike[str],
    name: str,
    expression: str,
    *,
    replace: bool = False,
    storage_options: Mapping[str, str] | None = None,
) -> EvolveReport:
    """Add a column with the value of an SQL expression for every row.

    The expression may be all that `query --sql` takes between `select` and `from dataset`: CASE, windows,
    subqueries. Only the columns that it names are read. Rows that come later have a null there.

    Args:
        uri: the dataset's.
        name: the new column's.
        expression: SQL; names of columns are exact-case.
        replace: a column that is there already gets the values; it keeps its type and place.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: the name is taken, equals another but for case, or is needed; or the values do not fit
            the type.
        BadSQL: the expression cannot be run, or does not give one value for each row.
        CommitError: the dataset changed under every attempt.
    """
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location)
    _check_new(dataset.schema, name, replace=replace)
    derivation = Derivation(location, name, expression)
    kind = dataset.schema.field(name).type if name in dataset.schema.names else derivation.type(dataset)
    maker = recorded({"tagger": SQL, "expression": expression})
    column = pa.field(name, kind, metadata=maker)
    if name in dataset.schema.names and is_image_like(column):
        raise ColumnError(f"column {name!r} holds bytes, which SQL does not make; give another name")
    if not dataset.get_fragments():
        _reserve(location, column, replace=replace)
        return _report(location)

    def prepare(current: LanceDataset) -> list[FragmentColumns]:
        _check_new(current.schema, name, replace=replace)
        return derivation.prepare(current, kind)

    properties = {JOB_KEY: f"add-column {name}", "laketag.expression": expression, COLUMNS_KEY: name}
    try:
        if name in dataset.schema.names:
            # Evaluated first, and disowned before it is replaced: a break in between must not leave values
            # of SQL under the name of a model.
            prepare(dataset)
            set_field_metadata(location, {name: maker})
        commit_columns(location, pa.schema([column]), prepare, properties)
    finally:
        derivation.drop_unused()
    return _report(location)


@explaining
def drop_column(
    uri: str | PathLike[str], name: str, *, storage_options: Mapping[str, str] | None = None
) -> EvolveReport:
    """Drop a column: a change of metadata. `restore` brings it back until `clean` deletes its version.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column, or no other, or it is needed: it holds the keys or the images.
        CommitError: the dataset changed under every attempt.
    """
    location = Location.of(uri, storage_options)

    def drop(dataset: LanceDataset) -> None:
        require_columns(dataset.schema, [name])
        if len(dataset.schema.names) == 1:
            raise ColumnError(f"column {name!r} is the only one; a dataset keeps at least one")
        _require_spare(dataset.schema, name)
        if image_columns(dataset.schema) == [name]:
            raise ColumnError(
                f"column {name!r} holds the images, without which nothing can be tagged or looked at; "
                "`laketag export --no-images` gives labels without images"
            )
        dataset.drop_columns([name])

    change(location, drop, lambda before, after: _name_of(after, before, name) is None)
    return _report(location)


@explaining
def rename_column(
    uri: str | PathLike[str], name: str, new_name: str, *, storage_options: Mapping[str, str] | None = None
) -> EvolveReport:
    """Rename a column: a change of metadata. What made a label column stays recorded with it.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column, or it holds the keys, or the new name is taken, if only but for
            case.
        CommitError: the dataset changed under every attempt.
    """
    location = Location.of(uri, storage_options)

    def rename(dataset: LanceDataset) -> None:
        require_columns(dataset.schema, [name])
        _require_spare(dataset.schema, name)
        others = pa.schema([field for field in dataset.schema if field.name != name])
        _check_new(others, new_name, replace=False)
        if new_name != name:
            _alter(dataset, path=name, name=new_name)

    change(location, rename, lambda before, after: _name_of(after, before, name) == new_name)
    return _report(location)


@explaining
def cast_column(
    uri: str | PathLike[str], name: str, kind: str, *, storage_options: Mapping[str, str] | None = None
) -> EvolveReport:
    """Give a column another width: integers to integers, floats to floats, strings to strings.

    Args:
        uri: the dataset's.
        name: the column's.
        kind: the new type by Arrow's name for it, as `float64` or `int32`.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        WrongUsage: there is no such type.
        DatasetNotFound: there is no dataset.
        ColumnError: there is no such column, or it holds the keys, a value does not fit the type, or Lance
            cannot cast there.
        CommitError: the dataset changed under every attempt.
    """
    location = Location.of(uri, storage_options)
    wanted = _type(kind)
    kept: dict[str, str] = {}

    def cast_it(dataset: LanceDataset) -> None:
        require_columns(dataset.schema, [name])
        field = dataset.schema.field(name)
        if is_image_like(field):
            raise ColumnError(f"column {name!r} holds bytes; casting it would write every image again")
        if field.type == wanted:
            return
        _require_spare(dataset.schema, name)
        kept.update({key.decode(): value.decode() for key, value in (field.metadata or {}).items()})
        try:
            _alter(dataset, path=name, data_type=wanted)
        except (OSError, ValueError) as error:
            if is_conflict(error) or is_of_the_store(error):
                raise
            raise ColumnError(
                f"column {name!r} cannot become {kind}: {first_line(error)}; `laketag add-column` with "
                f"cast({name} as ...) makes another column of it"
            ) from error

    def is_cast(_: LanceDataset, after: LanceDataset) -> bool:
        return name in after.schema.names and bool(after.schema.field(name).type == wanted)

    change(location, cast_it, is_cast)
    if kept:
        # Lance's cast forgets what made the column.
        set_field_metadata(location, {name: kept})
    return _report(location)


def _check_new(schema: pa.Schema, name: str, *, replace: bool) -> None:
    if name in ("", "*") or any(letter in name for letter in '."`') or name.startswith("_row"):
        raise ColumnError(
            f"{name!r} cannot name a column: it is empty or *, begins with _row, or holds a dot or a quote"
        )
    if name in schema.names:
        if not replace:
            raise ColumnError(
                f"there is a column {name!r} already; take another name, or replace its values with "
                "add-column --replace"
            )
        _require_spare(schema, name)
        return
    alike = [other for other in schema.names if other.lower() == name.lower()]
    if alike:
        raise ColumnError(
            f"the column {name!r} equals the column {alike[0]!r} but for case; take another name"
        )


def _require_spare(schema: pa.Schema, name: str) -> None:
    if name in (KEY, URL) and {KEY, URL} <= set(schema.names):
        raise ColumnError(
            f"column {name!r} tells imports which samples are there, so it stays as it is; "
            f"`laketag add-column` makes another column of it, --columns leaves it out"
        )


def _reserve(location: Location, column: pa.Field, *, replace: bool) -> None:
    """Add a column to a dataset that has no rows."""

    def reserve(dataset: LanceDataset) -> None:
        _check_new(dataset.schema, column.name, replace=replace)
        if column.name not in dataset.schema.names:
            dataset.add_columns(pa.schema([column]))

    def is_reserved(_: LanceDataset, after: LanceDataset) -> bool:
        return any(each.equals(column, check_metadata=True) for each in after.schema)

    change(location, reserve, is_reserved)


def _name_of(after: LanceDataset, before: LanceDataset, name: str) -> str | None:
    """Find what a column is called in a later version; None where it is gone."""
    number = field_id(before.lance_schema, name)
    return next((each for each in after.schema.names if field_id(after.lance_schema, each) == number), None)


def _alter(dataset: LanceDataset, **alteration: Any) -> None:
    # Lance's own signature asks for an iterable of what it takes one by one.
    dataset.alter_columns(cast(Any, alteration))


def _type(kind: str) -> pa.DataType:
    try:
        return pa.type_for_alias(kind)
    except ValueError as error:
        raise WrongUsage(
            f"there is no type {kind!r}; types are int32, int64, float32, float64, string, large_string, ..."
        ) from error


def _report(location: Location) -> EvolveReport:
    dataset = open_dataset(location)
    return EvolveReport(location.uri, dataset.version, tuple(dataset.schema.names))
