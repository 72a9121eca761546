"""SQL whose names mean what they say: exact-case, in filters and in full queries alike.

Lance's `sql` lower-cases names that are not quoted, and its filters take `"X"` for a string. So every name
of a column is quoted here, in the way that the reader at hand understands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# A comment, a string, a quoted name, a number or a word; everything else stays as it is.
_TOKEN = re.compile(r"""--[^\r\n]*|/\*[\s\S]*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\w+""")
_RESERVED = """
    all and any array as asc between by case cast cross date desc distinct else end except exists false
    first from full group having in inner intersect interval is join last left like limit natural not
    null nulls of offset on or order outer over partition right select similar then time timestamp to
    true union using values when where with
"""
_WHOLE = 1 << 64
"""Integers of every type are less."""
_KEYWORDS = frozenset(_RESERVED.split())
# A comment within a comment is left for what it is: where such a one ends, readers disagree.
_GAP = r"(?:[\s(]|--[^\r\n]*\r?(?:\n|$)|/\*(?:(?!/\*|\*/).)*\*/)"
# `explain analyze` runs what follows it, so that must be a query too.
_QUERY = re.compile(
    rf"{_GAP}*(?:explain{_GAP}+(?:analyze{_GAP}+)?(?:verbose{_GAP}+)?)?(?:select|with|values)\b",
    re.IGNORECASE | re.DOTALL,
)


def quote(name: str) -> str:
    """Quote a column's name for a filter."""
    return f"`{name}`"


def name(column: str) -> str:
    """Write a column's name as people do: in double quotes where it is no plain word."""
    is_plain = re.fullmatch(r"[^\W\d]\w*", column) and column.lower() not in _KEYWORDS
    return column if is_plain else '"' + column.replace('"', '""') + '"'


def literal(value: str | float | bool) -> str:
    """Write a value into a filter."""
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Write a number with at most 12 digits, but a whole one in full: Lance takes 1e+12 for no integer."""
    is_whole = float(value).is_integer() and abs(value) < _WHOLE
    return str(int(value)) if is_whole else f"{value:.12g}"


def is_query(text: str) -> bool:
    """Whether a statement reads and does nothing else: Lance's SQL can write files by `copy`."""
    return _QUERY.match(text) is not None


def for_filter(text: str, names: Sequence[str]) -> str:
    """Quote the columns of a filter as Lance's filters want it."""
    return _quoted(text, names, "`", "`")


def for_query(text: str, names: Sequence[str]) -> str:
    """Quote the columns of a full query as standard SQL wants it."""
    return _quoted(text, names, '"', '"')


def _quoted(text: str, names: Sequence[str], left: str, right: str) -> str:
    columns = set(names)

    def replace(match: re.Match[str]) -> str:
        token = match.group()
        if token[0] in "-/'" or token[0].isdecimal():
            return token
        if token[0] in '"`':
            meant = token[1:-1].replace(2 * token[0], token[0])
            return f"{left}{meant.replace(right, 2 * right)}{right}"
        is_call = text[match.end() :].lstrip().startswith("(")
        if token in columns and token.lower() not in _KEYWORDS and not is_call:
            return f"{left}{token}{right}"
        return token

    return _TOKEN.sub(replace, text)
