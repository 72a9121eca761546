"""Strips of pictures for a report: some of each bucket, the lowest and the highest."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from laketag.gallery import words
from laketag.gallery.pictures import thumbnails
from laketag.lake import sql
from laketag.lake.browsing import ROW_ID, RowIds, View
from laketag.lake.presence import KEY
from laketag.lake.shapes import Shape, as_numbers, edges_as

_SIDE = 160
_QUALITY = 62
_EACH = 7
_BUCKETS = 5
_ENDS = 7
_AT_ONCE = 32
# As text in the page; the page itself is small beside it, and must be one that a mail takes.
_ROOM = 8 << 20


@dataclass(frozen=True)
class StripPicture:
    """A picture in a strip."""

    row: int
    said: str
    """Below it."""


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as it stands in the page."""

    data: str
    """WebP, in base64."""
    name: str
    """Its row's key; without keys, the row's number."""


@dataclass(frozen=True)
class Strip:
    """Some pictures of a bucket."""

    title: str
    rows: int | None
    """Rows of the bucket; None where it is no bucket."""
    pictures: tuple[StripPicture, ...]


@dataclass
class Album:
    """The pictures of a page: each is read once, however many strips it is in."""

    view: View
    rows: dict[int, None] = field(default_factory=dict)
    pictures: int = 0

    def ask_for(self, ids: Sequence[int] | RowIds, said: Sequence[str]) -> tuple[StripPicture, ...]:
        """Ask for the pictures of some rows."""
        self.rows |= dict.fromkeys(int(one) for one in ids)
        return tuple(StripPicture(int(one), text) for one, text in zip(ids, said, strict=True))

    def filled(self) -> dict[int, EmbeddedPicture]:
        """Read and shrink what was asked for, by row, as long as there is room."""
        found: dict[int, EmbeddedPicture] = {}
        room, rows = _ROOM, list(self.rows)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            shrunk = thumbnails(self.view.images(some), _SIDE, _QUALITY)
            for row, name, small in zip(some, self._names(some), shrunk, strict=True):
                text = base64.b64encode(small).decode() if small else ""
                room -= len(text)
                if text and room >= 0:
                    found[row] = EmbeddedPicture(text, name)
        self.pictures = len(found)
        return found

    def _names(self, rows: Sequence[int]) -> list[str]:
        if KEY not in self.view.schema.names:
            return [f"row {row}" for row in rows]
        return [str((found or {}).get(KEY) or "") for found in self.view.rows(rows, [KEY])]


def strips(view: View, shape: Shape, album: Album) -> list[Strip]:
    """Choose pictures of a column: at random from each bucket, always the same, then the two ends."""
    scale = shape.scale
    table = view.values([scale.column])
    ids: RowIds = table[ROW_ID].to_numpy()
    if not scale.is_number:
        values = table[scale.column].combine_chunks().dictionary_encode()
        kinds, codes = values.dictionary.to_pylist(), values.indices.fill_null(-1).to_numpy()
        return [
            _strip(str(tag), ids[codes == kinds.index(tag)], None, album)
            for tag in scale.tags
            if tag in kinds
        ]
    numbers = as_numbers(table[scale.column])
    each = max(1, -(-(len(scale.edges) - 1) // _BUCKETS))  # bars of a bucket
    edges = np.array(scale.edges)[::each]
    borders = edges_as(scale, table[scale.column].type)[::each][1:]
    bucket = np.searchsorted(borders, numbers, side="right")
    found = []
    for at in range(len(edges)):
        inside = (bucket == at) & ~np.isnan(numbers)
        found.append(_strip(_title(edges, at), ids[inside], numbers[inside], album))
    ends = [
        _end(view, scale.column, name, order, album) for name, order in (("Highest", " desc"), ("Lowest", ""))
    ]
    return [*(strip for strip in found if strip.rows), *ends]


def _title(edges: npt.NDArray[np.float64], at: int) -> str:
    low = words.number(float(edges[at]))
    if at + 1 == len(edges):
        return f"{low} and more"
    high = words.number(float(edges[at + 1]))
    return f"{low} to {high}" if at else f"below {high}"


def _strip(title: str, ids: RowIds, numbers: npt.NDArray[np.float64] | None, album: Album) -> Strip:
    chosen = np.sort(np.random.default_rng(0).choice(len(ids), min(_EACH, len(ids)), replace=False))
    said = [""] * len(chosen) if numbers is None else [words.number(float(one)) for one in numbers[chosen]]
    return Strip(title, len(ids), album.ask_for(ids[chosen], said))


def _end(view: View, column: str, title: str, order: str, album: Album) -> Strip:
    ids = view.choose(f"{sql.name(column)} is not null", column + order, first=_ENDS).ids
    said = [words.cell((row or {}).get(column)) for row in view.rows(ids, [column])]
    return Strip(title, None, album.ask_for(ids, said))
