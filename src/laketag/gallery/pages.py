"""The pages of a gallery: what each shows, found in the dataset and filled into its template."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from laketag.errors import BadSQL, ColumnError
from laketag.gallery import words
from laketag.gallery.cached import CachedDataset
from laketag.gallery.cards import Card, caption_of, cards_of, key_of
from laketag.gallery.choice import Choice
from laketag.gallery.drawing import Histogram, drawn, histogram
from laketag.lake import sql
from laketag.lake.browsing import RowIds, View
from laketag.lake.labels import provenance
from laketag.lake.presence import KEY, URL
from laketag.lake.query import can_order, default_columns
from laketag.lake.shapes import Scale, can_be_counted, shape
from laketag.lake.similar import is_vector

PAGE = 60
_ALIKE = 18
_BESIDE = 6
_HASH = "DHASH"


@dataclass(frozen=True)
class Pages:
    """Makes the pages of one dataset."""

    cached: CachedDataset
    stamp: str
    """Part of every picture's address, so that a browser never shows those of an earlier server."""

    def grid(self, choice: Choice, offset: int) -> str:
        """Show pictures, filters and histograms. A filter that cannot be run is said in the page."""
        choice = self._settled(choice)
        values = self._frame(choice) | {"error": None, "offset": offset}
        values |= {"example": _example(self.cached.scales(choice.at))}
        try:
            values |= self._chosen(choice, offset) | {"facets": self._facets(choice)}
        except (BadSQL, ColumnError) as error:
            everything = Choice(choice.at)
            values |= {"error": str(error), "cards": [], "total": 0, "next": None, "command": ""}
            values |= {"facets": self._facets(everything), "keys": "", "where": None}
        return drawn("grid.html", **values)

    def more(self, choice: Choice, offset: int) -> str:
        """Give the next cards alone."""
        return drawn("more.html", **self._chosen(self._settled(choice), offset))

    def row(self, choice: Choice, row: int) -> str | None:
        """Show an image with all columns of its row, and those beside it; None where there is no such row."""
        choice = self._settled(choice)
        view = self.cached.view(choice.at)
        [found] = view.rows([row], default_columns(view.schema))
        if found is None:
            return None
        labels, others = _split(view.schema, found)
        values = self._frame(choice) | {
            "row": row,
            "key": key_of(found, row),
            "caption": caption_of(found),
            "src": f"/image/{self.stamp}/{view.version}/{row}",
            "labels": labels,
            "others": others,
            "beside": self._beside(choice, row),
            "alike": choice.address(f"/alike/{row}") if _likeness(view) else None,
        }
        return drawn("row.html", **values)

    def alike(self, choice: Choice, row: int) -> str:
        """Show the rows that are like a row: by a vector column, or else by the hash of `quality`."""
        choice = self._settled(choice)
        view = self.cached.view(choice.at)
        column = _likeness(view)
        if column is None:
            raise ColumnError(
                "no column says which images are alike; tag them with quality, or keep a vector"
            )
        find = view.alike if column == _HASH else view.nearest
        found = find(column, row, _ALIKE)
        notes = {one: _likeness_note(column, distance) for one, distance in found}
        cards = self._cards(choice, [one for one, _ in found], notes)
        back = choice.address(f"/row/{row}")
        return drawn("alike.html", **self._frame(choice), cards=cards, column=column, back=back, row=row)

    def compare(self, choice: Choice, before: int | None, column: str, offset: int) -> str:
        """Show two versions side by side: what changed, a column in both, the rows that moved."""
        choice = self._settled(Choice(choice.at))
        after = choice.at or 0
        numbers = [each.version for each in self.cached.history().versions if each.version < after]
        before = before or (numbers[-1] if numbers else after)
        difference = self.cached.difference(before, after)
        both = set(self.cached.view(before).schema.names)
        columns = [scale.column for scale in self.cached.scales(after)]
        moved = {each.column: each.moved for each in difference.labels}
        # The most telling one: whose labels moved most, or else the first label.
        chosen = (
            column if column in columns else max(columns, key=lambda each: moved.get(each, 0), default="")
        )
        values = self._frame(choice) | {"difference": difference, "before": before, "after": after}
        values |= {"columns": columns, "column": chosen, "moved": moved, "is_in_both": chosen in both}
        values |= {"sides": self._sides(before, after, chosen) if chosen else []}
        values |= self._moved(before, after, chosen if chosen in both else None, offset)
        return drawn("compare.html", **values)

    def keys(self, choice: Choice) -> Iterator[tuple[str, str]]:
        """Give key and shard of all chosen rows, in order."""
        choice = self._settled(choice)
        view = self.cached.view(choice.at)
        columns = [name for name in (KEY, URL) if name in view.schema.names]
        ids = self.cached.chosen(choice, None).ids

        def found() -> Iterator[tuple[str, str]]:
            for start in range(0, len(ids), 5000):
                some = ids[start : start + 5000]
                for one, row in zip(some, view.rows(some, columns), strict=True):
                    yield key_of(row or {}, int(one)), str((row or {}).get(URL, ""))

        return found()

    def problem(self, message: str) -> str:
        """Say in a page that something cannot be shown."""
        return drawn("problem.html", uri=self.cached.location.uri, message=message)

    def _settled(self, choice: Choice) -> Choice:
        """Name the version, and drop bounds that keep everything."""
        choice = self.cached.pinned(choice)
        scales = {scale.column: scale for scale in self.cached.scales(choice.at)}
        bounds = []
        for bound in choice.bounds:
            scale = scales.get(bound.column)
            if scale is not None and scale.is_number:
                low = None if bound.low is not None and bound.low <= scale.edges[0] else bound.low
                high = None if bound.high is not None and bound.high >= scale.edges[-1] else bound.high
                bound = replace(bound, low=low, high=high)
            if (bound.low, bound.high) != (None, None):
                bounds.append(bound)
        return replace(choice, bounds=tuple(bounds))

    def _frame(self, choice: Choice) -> dict[str, Any]:
        view = self.cached.view(choice.at)
        return {
            "uri": self.cached.location.uri,
            "name": self.cached.location.uri.rstrip("/").rpartition("/")[2],
            "choice": choice,
            "rows": view.dataset.count_rows(),
            "versions": list(reversed(self.cached.history().versions)),
            "sorts": [name for name in default_columns(view.schema) if can_order(view.schema.field(name))],
            "page": PAGE,
        }

    def _chosen(self, choice: Choice, offset: int) -> dict[str, Any]:
        chosen = self.cached.chosen(choice, offset + PAGE)
        last = offset + PAGE
        where = self.cached.filter(choice)
        return {
            "cards": self._cards(choice, chosen.ids[offset:last]),
            "total": chosen.total,
            "where": where,
            "next": choice.address("/", offset=last) if chosen.total > last else None,
            "more": choice.address("/more", offset=last) if chosen.total > last else None,
            "command": _export(self.cached.location.uri, where, self._earlier(choice)),
            "keys": choice.address("/keys.txt"),
        }

    def _earlier(self, choice: Choice) -> int | None:
        """Give the version, where it is not the latest."""
        return None if choice.at == self.cached.latest() else choice.at

    def _facets(self, choice: Choice) -> list[Histogram]:
        whole = self.cached.shapes(Choice(choice.at))
        shapes = self.cached.shapes(choice)
        facets = [histogram(each, of) for each, of in zip(shapes, whole, strict=True)]
        return sorted(facets, key=lambda facet: facet.shape.scale.is_error)  # what went wrong comes last

    def _cards(
        self, choice: Choice, ids: Sequence[int] | RowIds, notes: Mapping[int, str] | None = None
    ) -> list[Card]:
        return cards_of(self.cached, choice, ids, notes, stamp=self.stamp)

    def _beside(self, choice: Choice, row: int) -> dict[str, Any]:
        """Find what comes before and after a row in the order that it was found in."""
        asked = choice
        try:
            chosen = self.cached.chosen(asked)
        except (BadSQL, ColumnError):
            asked = Choice(choice.at)
            chosen = self.cached.chosen(asked)
        if len(chosen.ids) < chosen.total and row not in chosen.ids[:-_BESIDE]:
            chosen = self.cached.chosen(asked, None)
        ids = chosen.ids
        [at] = (ids == row).nonzero()[0][:1].tolist() or [None]
        if at is None:
            return {"place": None, "total": 0, "cards": [], "previous": None, "next": None}
        start = max(0, at - _BESIDE)
        cards = self._cards(choice, ids[start : at + _BESIDE + 1])
        links = {card.row: card.href for card in cards}
        step = {"previous": at - 1, "next": at + 1}
        found = {name: links.get(int(ids[to])) if 0 <= to < len(ids) else None for name, to in step.items()}
        return {"place": at + 1, "total": chosen.total, "cards": cards, **found}

    def _sides(self, before: int, after: int, column: str) -> list[Histogram | None]:
        """Draw a column in both versions on the later one's scale; None where one cannot be drawn on it."""
        [new] = [each for each in self.cached.shapes(Choice(after)) if each.scale.column == column]
        view = self.cached.view(before)
        is_there = column in view.schema.names and can_be_counted(new.scale, view.schema.field(column).type)
        old = shape(new.scale, view.values([column])[column]) if is_there else None
        pairs = ((old, new), (new, old))
        return [None if each is None else histogram(each, beside=other) for each, other in pairs]

    def _moved(self, before: int, after: int, column: str | None, offset: int) -> dict[str, Any]:
        if column is None:
            return {"moves": [], "moved_rows": 0, "next": None}
        rows = self.cached.moved(before, after, column)
        some = rows[offset : offset + PAGE]
        cards = self._cards(Choice(after), some)
        olds, news = (self.cached.view(each).rows(some, [column]) for each in (before, after))
        moves = [
            {
                "card": card,
                "before": words.cell((old or {}).get(column)),
                "after": words.cell((new or {}).get(column)),
            }
            for card, old, new in zip(cards, olds, news, strict=True)
        ]
        return {
            "moves": moves,
            "moved_rows": len(rows),
            "next": offset + PAGE if offset + PAGE < len(rows) else None,
        }


def _export(uri: str, where: str | None, at: int | None) -> str:
    command = ["laketag", "export", uri, "selection/{000000..}.tar"]
    command += ["--where", where] if where else []
    return shlex.join(command + (["--at", str(at)] if at is not None else []))


def _example(scales: Sequence[Scale]) -> str:
    """Write a filter that could be typed."""
    number = next((scale for scale in scales if scale.is_number), None)
    if number is None:
        return ""
    return f"{sql.name(number.column)} > {sql.number(number.edges[len(number.edges) // 2])}"


def _split(schema: pa.Schema, row: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Tell what laketag said of a row from what came with it."""
    shown = [(name, words.cell(value), value is None) for name, value in row.items()]
    made_by = provenance(schema)
    return [each for each in shown if each[0] in made_by], [each for each in shown if each[0] not in made_by]


def _likeness(view: View) -> str | None:
    """Name the column that tells how alike images are."""
    has_hash = _HASH in view.schema.names and pa.types.is_int64(view.schema.field(_HASH).type)
    vectors = [field.name for field in view.schema if is_vector(field)]
    return next(iter(vectors), _HASH if has_hash else None)


def _likeness_note(column: str, distance: float) -> str:
    return (
        words.count(int(distance), "other bit") if column == _HASH else f"distance {words.number(distance)}"
    )
