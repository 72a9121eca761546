"""Rows as cards: a picture, its key and caption, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laketag.gallery import words
from laketag.gallery.cached import CachedDataset
from laketag.gallery.choice import Choice
from laketag.lake.browsing import RowIds
from laketag.lake.labels import is_error
from laketag.lake.presence import KEY
from laketag.lake.shapes import Scale

_CAPTIONS = ("caption", "txt", "text", "alt", "title")
_MARKS = 3


@dataclass(frozen=True)
class Mark:
    """What a card says of a row."""

    column: str
    """Empty where the text says what it is of."""
    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Card:
    """A row among others."""

    row: int
    href: str
    src: str
    key: str
    caption: str
    marks: tuple[Mark, ...]


def cards_of(
    cached: CachedDataset,
    choice: Choice,
    ids: Sequence[int] | RowIds,
    notes: Mapping[int, str] | None = None,
    *,
    stamp: str,
) -> list[Card]:
    """Make the cards of some rows, in order.

    Args:
        cached: the dataset on show.
        choice: what its marks and links are about.
        ids: the rows.
        notes: what is said of each row instead of its marks.
        stamp: part of every picture's address.
    """
    view = cached.view(choice.at)
    names = set(view.schema.names)
    marked = _marked(choice, cached.scales(choice.at))
    errors = [each.name for each in view.schema if is_error(each) and each.name not in marked]
    wanted = dict.fromkeys([KEY, *_CAPTIONS, *marked, *errors])
    made = []
    for one, row in zip(ids, view.rows(ids, [name for name in wanted if name in names]), strict=True):
        number, found = int(one), row or {}
        marks = [Mark("", notes[number])] if notes else _marks(found, marked, errors)
        made.append(
            Card(
                number,
                choice.address(f"/row/{number}"),
                f"/thumbnail/{stamp}/{view.version}/{number}",
                key_of(found, number),
                caption_of(found),
                tuple(marks),
            )
        )
    return made


def _marked(choice: Choice, scales: Sequence[Scale]) -> list[str]:
    """Choose what cards say: what they are in order of, what filters speak of, then tags and scores."""
    sort = choice.sort.rpartition(" ")[0] if choice.sort.endswith(" desc") else choice.sort
    labels = [scale.column for scale in scales if scale.is_label and not scale.is_error]
    first = [name for end in ("_TAG", "_SCORE") for name in labels if name.endswith(end)]
    asked = [bound.column for bound in choice.bounds] + [tags.column for tags in choice.tags]
    found = [name for name in dict.fromkeys([sort, *asked, *first, *labels]) if name and name != KEY]
    return found[:_MARKS]


def _marks(row: Mapping[str, Any], columns: Sequence[str], errors: Sequence[str]) -> list[Mark]:
    marks = [Mark(name, words.cell(row[name])) for name in columns if row.get(name) is not None]
    reasons = dict.fromkeys(str(row[name]) for name in errors if row.get(name) is not None)
    return marks + [Mark("error", reason, is_error=True) for reason in reasons]


def key_of(row: Mapping[str, Any], number: int) -> str:
    """Give a row's key; its number where it has none."""
    return str(row.get(KEY) or f"row {number}")


def caption_of(row: Mapping[str, Any]) -> str:
    """Give the text that came with a row's image; nothing where none did."""
    found = next((row[name] for name in _CAPTIONS if isinstance(row.get(name), str)), "")
    return str(found)
