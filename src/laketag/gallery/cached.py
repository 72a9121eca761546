"""A dataset on show, with a memory: versions opened, rows in order, counts and small pictures."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pyarrow as pa

from laketag.gallery.cache import Cache
from laketag.gallery.choice import Choice
from laketag.gallery.pictures import thumbnail
from laketag.lake.browsing import Chosen, RowIds, View
from laketag.lake.dataset import open_dataset
from laketag.lake.differing import DiffReport, diff, rows_moved
from laketag.lake.history import VersionsReport, versions
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.shapes import Scale, Shape, shapes, survey

THUMBNAIL = 320
"""Pixels of the longer side: sharp on a phone's screen at half of it."""
FIRST = 1200
"""So many rows of an order are found first: they are found fast, and few people look further."""
_PICTURE_BYTES = 64 << 20
_ORDER_BYTES = 128 << 20
_FEW = 32
_REMEMBERED = 200
_A_MOMENT = 0.5  # seconds; a page asks several times, and a store is slow to answer
_MANY_OF = 20
"""One row of so many is many: more are read faster than looked up."""


class CachedDataset:
    """A dataset on show; every answer is remembered for as long as there is room."""

    def __init__(self, location: Location, image: str | None) -> None:
        """Open the latest version and look it over, so that what is wrong is known before there is a page.

        Raises:
            DatasetNotFound: there is no dataset.
            ColumnError: it cannot be told which column holds the images.
            LinkBroken: a tar that rows point into is gone, or was changed.
        """
        require_links(location)
        self.location = location
        self._image = image
        self._views: Cache[int, View] = Cache(_FEW)
        self._surveys: Cache[int, tuple[Shape, ...]] = Cache(_FEW)
        self._shapes: Cache[tuple[int, str], tuple[Shape, ...]] = Cache(_REMEMBERED)
        self._orders: Cache[tuple[Any, ...], Chosen] = Cache(
            _ORDER_BYTES, lambda chosen: int(chosen.ids.nbytes)
        )
        self._thumbnails: Cache[tuple[int, int], bytes | None] = Cache(
            _PICTURE_BYTES, lambda data: len(data or b"-")
        )
        self._histories: Cache[int, VersionsReport] = Cache(_FEW)
        self._differences: Cache[tuple[int, int], DiffReport] = Cache(_REMEMBERED)
        self._latest = (-_A_MOMENT, 0)
        self.scales(None)

    def latest(self) -> int:
        """Give the number of the latest version, which others may have made a moment ago."""
        seen, number = self._latest
        if time.monotonic() - seen > _A_MOMENT:
            number = int(open_dataset(self.location).version)
            self._latest = (time.monotonic(), number)
        return number

    def view(self, version: int | None) -> View:
        """Open a version.

        Raises:
            DatasetError: there is no such version.
        """
        number = self.latest() if version is None else version
        return self._views.get(number, lambda: View.of(self.location, number, self._image))

    def pinned(self, choice: Choice) -> Choice:
        """Name the version, where a choice means the latest one."""
        return choice if choice.at is not None else replace(choice, at=self.latest())

    def filter(self, choice: Choice) -> str | None:
        """Write a choice as one filter in SQL."""
        schema = self.view(choice.at).schema
        return choice.filter(
            texts=[f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)],
            floats=[f.name for f in schema if pa.types.is_floating(f.type)],
        )

    def chosen(self, choice: Choice, until: int | None = 0) -> Chosen:
        """Find the rows of a choice, in order: at least so many of the first ones, or all where None.

        Raises:
            BadSQL: Lance cannot run the filter.
            ColumnError: there is no such column to order by.
        """
        view, where = self.view(choice.at), self.filter(choice)
        first = FIRST if until is not None and until <= FIRST else None
        key = (view.version, where, choice.sort, first)
        return self._orders.get(key, lambda: view.choose(where, choice.sort or None, first=first))

    def scales(self, version: int | None) -> tuple[Scale, ...]:
        """Give the scales of a version."""
        return tuple(shape.scale for shape in self._survey(version))

    def shapes(self, choice: Choice) -> tuple[Shape, ...]:
        """Count the rows of a choice on every scale.

        Raises:
            BadSQL: Lance cannot run the filter.
        """
        view, where = self.view(choice.at), self.filter(choice)
        if where is None:
            return self._survey(choice.at)
        has_many = self.chosen(choice).total * _MANY_OF > view.dataset.count_rows()
        return self._shapes.get(
            (view.version, where),
            lambda: tuple(shapes(view, self.scales(choice.at), where, has_many=has_many)),
        )

    def _survey(self, version: int | None) -> tuple[Shape, ...]:
        view = self.view(version)
        return self._surveys.get(view.version, lambda: tuple(survey(view)))

    def thumbnail(self, version: int, row: int) -> bytes | None:
        """Give a row's picture, small; None where it cannot be read."""
        view = self.view(version)
        return self._thumbnails.get((version, row), lambda: thumbnail(view.images([row])[0], THUMBNAIL))

    def history(self) -> VersionsReport:
        """List the latest versions, the oldest first."""
        uri, options = self.location.uri, self.location.storage_options
        return self._histories.get(
            self.latest(), lambda: versions(uri, limit=_REMEMBERED, storage_options=options)
        )

    def difference(self, before: int, after: int) -> DiffReport:
        """Compare two versions."""
        uri, options = self.location.uri, self.location.storage_options
        return self._differences.get(
            (before, after), lambda: diff(uri, before, after, storage_options=options)
        )

    def moved(self, before: int, after: int, column: str) -> RowIds:
        """Find the rows with another label in the later version."""

        def found() -> Chosen:
            ids = rows_moved(self.view(before).dataset, self.view(after).dataset, column)
            return Chosen(ids, len(ids))

        return self._orders.get(("moved", before, after, column), found).ids
