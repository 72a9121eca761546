"""What a dataset is: how it is opened, which column holds its images, and what lies in its fragments."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

import pyarrow as pa

from laketag.errors import ColumnError, DatasetError, DatasetNotFound, StoreError, WrongUsage
from laketag.lake.explaining import first_line
from laketag.lake.location import Location
from laketag.lake.patience import is_said_by_a_store, says_there_is_nothing

if TYPE_CHECKING:
    from lance import LanceDataset as LanceDataset  # for the layers above, which do not import lance
    from lance.fragment import DataFile, FragmentMetadata

PIN_PREFIX = "laketag-"
"""Begins the Lance tags by which running jobs keep their version."""
_DIGITS = 18
"""More than any version has, and less than Lance can be asked for."""
IMAGE_NAMES = (
    *("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jp2", "ppm", "pgm"),
    *("image", "img", "image_bytes"),
)


def open_dataset(location: Location, version: int | str | None = None) -> LanceDataset:
    """Open a dataset, pinned to a version: its number, or its name; the latest one by default.

    Raises:
        DatasetNotFound: there is none.
        DatasetError: there is no such version, or a file lies where the dataset or its data would.
        StoreError: the store refuses, or does not answer, or what lies there is damaged.
    """
    import lance

    _require_folder(location)
    if isinstance(version, str):
        version = version_number(open_dataset(location), version)
    try:
        return lance.dataset(location.uri, version=version, storage_options=dict(location.storage_options))
    except (ValueError, OSError) as error:
        if "was not found" not in str(error) and not says_there_is_nothing(error):
            why = first_line(error)
            if not is_said_by_a_store(error):
                why += "; it is damaged" if location.is_local else "; look at the address and the options"
            raise StoreError(f"{location.uri} cannot be opened: {why}") from error
        if version is not None and exists(location):
            raise DatasetError(
                f"{location.uri} has no version {version}; `laketag versions` lists them"
            ) from error
        raise DatasetNotFound(
            f"no Lance dataset at {location.uri}; make one with `laketag import SHARD... {location.uri}`"
        ) from error


def _require_folder(location: Location) -> None:
    # Lance would try for seconds to list a file, or what lies below one.
    with suppress(FileNotFoundError):
        try:
            is_folder = not location.is_local or S_ISDIR(os.stat(location.uri).st_mode)
        except NotADirectoryError:
            is_folder = False
        if not is_folder:
            raise DatasetError(
                f"{location.uri} is a file, or lies below one; a dataset is a folder: name one"
            )
    data = os.path.join(location.uri, "data")
    if location.is_local and os.path.lexists(data) and not os.path.isdir(data):
        raise DatasetError(f"{data} is no folder, and a dataset keeps its files there; move it away")


def create_tag(location: Location, dataset: LanceDataset, name: str) -> None:
    """Give a dataset's version a name of Lance's.

    Raises:
        ValueError: the name is taken, or is none.
        OSError: the store, or the disk, refuses.
    """
    import lance

    if location.is_local:
        # Of a plain path Lance makes the folder that the escaped path names, too: `%E6...` beside a `数...`.
        dataset = lance.dataset(f"file-object-store://{quote(location.uri)}", version=dataset.version)
    dataset.tags.create(name, dataset.version)


def version_number(dataset: LanceDataset, version: int | str) -> int:
    """Turn a version's number or name into its number.

    Raises:
        DatasetError: no version has such a name.
    """
    text = str(version)
    named = dataset.tags.list()
    if text in named:
        return int(named[text]["version"])
    if text.isdecimal() and len(text) <= _DIGITS:
        return int(text)
    have = ", ".join(sorted(name for name in named if not name.startswith(PIN_PREFIX))) or "none"
    raise DatasetError(f"no version is named {text!r}; give a number, or one of these names: {have}")


def exists(location: Location) -> bool:
    """Whether there is a dataset."""
    try:
        open_dataset(location)
    except DatasetNotFound:
        return False
    return True


def is_image_like(field: pa.Field) -> bool:
    """Whether a column holds bytes, stored plainly or as blobs."""
    return pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type) or is_blob(field)


def is_blob(field: pa.Field) -> bool:
    """Whether a column holds Lance's blobs (v2), which may lie in files of their own or in others' files."""
    return str(field.type).startswith("extension<lance.blob")


def image_columns(schema: pa.Schema) -> list[str]:
    """List the columns that may hold the images: those with an image's name, else all with bytes."""
    candidates = [field.name for field in schema if is_image_like(field)]
    return [name for name in candidates if name.lower() in IMAGE_NAMES] or candidates


def image_column(schema: pa.Schema, asked: str | None = None) -> str:
    """Find the image column: the one asked for, the one with an image's name, or the only one with bytes.

    Raises:
        ColumnError: there is none, there are several, or the one asked for holds no bytes.
    """
    if asked is not None:
        candidates = [field.name for field in schema if is_image_like(field)]
        if asked in candidates:
            return asked
        held = f"it holds {schema.field(asked).type}" if asked in schema.names else "there is no such column"
        raise ColumnError(
            f"column {asked!r} cannot be read as images: {held}; columns with bytes: {_list(candidates)}"
        )
    named = image_columns(schema)
    if len(named) == 1:
        return named[0]
    if not named:
        raise ColumnError(
            f"no column holds bytes, so there is no image to read; columns: {_list(schema.names)}"
        )
    raise ColumnError(f"several columns may hold the images ({_list(named)}); choose one with --column")


def require_columns(schema: pa.Schema, names: Sequence[str]) -> None:
    """Raise a `ColumnError` for the first name that is no column."""
    for name in names:
        if name not in schema.names:
            by_lower = {each.lower(): each for each in schema.names}
            close = get_close_matches(name.lower(), by_lower, n=1)
            hint = f"did you mean {by_lower[close[0]]!r}?" if close else f"columns: {_list(schema.names)}"
            raise ColumnError(f"there is no column {name!r}; {hint}")


def require_names(columns: Sequence[str] | None) -> None:
    """Raise `WrongUsage` where columns are asked for by name, and none is named, or one twice."""
    if columns is None:
        return
    if isinstance(columns, str):
        raise WrongUsage(f"the columns are a text, {columns!r}; give a tuple of names")
    if not columns:
        raise WrongUsage("no column is named; name some, or leave --columns out")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise WrongUsage(f"column {twice[0]!r} is named twice; name it once")


def field_id(schema: Any, name: str) -> int:
    """Give the id of a field that is there; ids change with `restore`, so they are never remembered."""
    return int(schema.field(name).id())


def all_ids(field: Any, kind: pa.DataType) -> list[int]:
    """List the ids of a column and of all fields inside it, the outer ones first."""
    return [int(each.id()) for each in _within(field, kind)]


def leaf_ids(field: Any, kind: pa.DataType) -> list[int]:
    """List the ids under which a data file holds a column: those of its leaves; a blob is one leaf."""
    if not pa.types.is_nested(kind):
        return [int(field.id())]
    return [int(each.id()) for each in _within(field, kind) if not each.children()]


def column_ids(dataset: LanceDataset, names: Sequence[str]) -> list[int]:
    """List the ids under which data files hold some columns that are there, in the order of the names."""
    known = dataset.lance_schema
    return [leaf for name in names for leaf in leaf_ids(known.field(name), dataset.schema.field(name).type)]


def _within(field: Any, kind: pa.DataType | None = None) -> Iterator[Any]:
    yield field
    # A blob has fields inside as well, but they are no one's business.
    if kind is None or pa.types.is_nested(kind):
        for child in field.children():
            yield from _within(child)


_listed: WeakKeyDictionary[LanceDataset, tuple[int, Sequence[FragmentMetadata]]] = WeakKeyDictionary()


def fragments_of(dataset: LanceDataset) -> Sequence[FragmentMetadata]:
    """List what is known of every fragment, in the dataset's order; it is not to be changed.

    Lance makes all of it anew at each look, 20 microseconds a fragment, and a run looks a dozen times.
    """
    version, found = _listed.get(dataset, (None, ()))
    if version != dataset.version:
        found = tuple(fragment.metadata for fragment in dataset.get_fragments())
        _listed[dataset] = (dataset.version, found)
    return found


def source(fragment: FragmentMetadata, ids: Sequence[int]) -> str:
    """Name where a fragment's data files hold some fields: whoever changes a value writes another file.

    Its place in the file is part of it, since a column may have taken the name of another one in there.
    Where the fragment holds none of them (they are null), any file of it names its rows as well.
    """
    places = [
        f"{path_of(file)}#{file.column_indices[file.fields.index(field)]}"
        for field in ids
        for file in fragment.files
        if field in file.fields
    ]
    return " ".join(places) or path_of(fragment.files[0])


def data_file(fragment: FragmentMetadata, field_id: int) -> str | None:
    """Name the data file that holds a field of a fragment; None where the fragment has none (all null)."""
    for file in fragment.files:
        if field_id in file.fields:
            return path_of(file)
    return None


def path_of(file: DataFile) -> str:
    """Give a data file's name below `data/`."""
    # pylance's own `path` makes a class at every call, most of what a plan would take; one day it may not.
    kept: str | None = getattr(file, "_path", None)
    return str(file.path) if kept is None else kept


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
