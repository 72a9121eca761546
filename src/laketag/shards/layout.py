"""Which columns of a dataset become which members of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from laketag.lake.dataset import IMAGE_NAMES, is_image_like, require_columns
from laketag.lake.labels import is_digest, is_label
from laketag.lake.presence import KEY
from laketag.lake.similar import is_vector
from laketag.shards.schema import SOURCE, decode_source

_PLAIN_MEMBERS = {"txt": pa.string(), "cls": pa.int64(), "json": pa.string()}
_MEMBER = ("member", "bytes")
"""Origins of columns that were members of their own."""
_GENERIC = ("image", "img", "image_bytes")
_MAGIC = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG", "png"),
    (b"GIF8", "gif"),
    (b"RIFF", "webp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


@dataclass(frozen=True)
class MemberColumn:
    """A column whose values are members."""

    column: str
    extension: str
    """What follows the key and a dot."""

    def extension_of(self, body: bytes) -> str:
        """Tell the extension of one value: a column just called `image` takes that of its bytes."""
        if self.extension not in _GENERIC:
            return self.extension
        return next((ending for magic, ending in _MAGIC if body.startswith(magic)), self.extension)


@dataclass(frozen=True)
class Layout:
    """How a row becomes a sample."""

    key: str | None
    """The column of keys; None where rows are numbered instead."""
    members: tuple[MemberColumn, ...]
    """What becomes members of their own."""
    raw: str | None
    """The column of raw JSON."""
    labels: tuple[str, ...]
    """Columns that go into the JSON."""

    @property
    def columns(self) -> list[str]:
        """Name the columns to read."""
        single = [name for name in (self.key, self.raw) if name is not None]
        return [*single, *(each.column for each in self.members), *self.labels]

    @classmethod
    def of(cls, schema: pa.Schema, names: Sequence[str] | None, *, images: bool) -> Layout:
        """Lay out some columns, or where none are named all that is not in the raw JSON already.

        Raises:
            ColumnError: there is no such column.
        """
        found = [(each, *_source(each).partition(":")[::2]) for each in chosen(schema, names, images=images)]
        # Where the JSON itself does not go out, its columns are all that there is of it.
        told = ("row", "json") if any(_is_json(*source) for _, *source in found) else ("row",)
        members, labels, raw = [], [], None
        for each, origin, what in found:
            if each.name == KEY:
                continue
            if _is_json(origin, what):
                if is_image_like(each):
                    members.append(MemberColumn(each.name, "json_bytes"))
                else:
                    raw = each.name
            elif origin in _MEMBER:
                members.append(MemberColumn(each.name, _dotted(what)))
            elif names is not None or not (origin in told or is_vector(each)):
                labels.append(each.name)
        return cls(KEY if KEY in schema.names else None, tuple(members), raw, tuple(labels))


def chosen(schema: pa.Schema, names: Sequence[str] | None, *, images: bool) -> list[pa.Field]:
    """List the columns to export, in the dataset's order: those that are named, or all but digests.

    Raises:
        ColumnError: there is no such column.
    """
    require_columns(schema, names or ())
    wanted = [each for each in schema if (not is_digest(each) if names is None else each.name in names)]
    return [each for each in wanted if images or not is_image_like(each)]


def _source(field: pa.Field) -> str:
    """Say what a column was made of, as import does; guess it for columns that import did not make."""
    metadata = field.metadata or {}
    if SOURCE in metadata and not is_label(field):
        return decode_source(metadata[SOURCE])
    is_plain = not is_label(field) and _PLAIN_MEMBERS.get(field.name) == field.type
    return f"member:{field.name}" if is_plain or is_image_like(field) else ""


def _is_json(origin: str, what: str) -> bool:
    return what == "json" and origin in _MEMBER


def _dotted(extension: str) -> str:
    """Give `seg_png` its dot back: import made it an underscore, and readers decode by what follows a dot."""
    stem, underscore, tail = extension.replace("/", "_").rpartition("_")
    is_image = tail in IMAGE_NAMES and tail not in _GENERIC
    return f"{stem}.{tail}" if underscore and stem and is_image else stem + underscore + tail
