"""Values as people read them: sizes, times, counts and plain tables."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = "  "


def size(count: float) -> str:
    """Give bytes in decimal units."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"


def duration(seconds: float) -> str:
    """Give a time in its two largest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((at for at, (number, _) in enumerate(parts) if number), 3)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def count(number: int, noun: str) -> str:
    """Give a number with its noun, in the plural where it must be."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def width_of(text: str) -> int:
    """Count the cells of a terminal that a text takes: a Chinese letter takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Shorten a text to a width, in cells, and show that it was."""
    if width_of(text) <= width:
        return text
    from rich.cells import set_cell_size

    return f"{set_cell_size(text, max(0, width - 1))}…"


def printable(text: str) -> str:
    """Leave out what could command a terminal, or break a line: captions, keys and reasons may hold it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int]) -> list[str]:
    """Lay out rows under a head in aligned columns, those of the given indexes to the right."""
    widths = [max(map(width_of, column)) for column in zip(head, *rows, strict=True)]
    return [aligned(line, widths, numbers) for line in (head, *rows)]


def aligned(cells: Sequence[str], widths: Sequence[int], numbers: Sequence[int]) -> str:
    """Lay out one line of a table; a cell that is too wide moves what comes after it."""
    laid = []
    for at, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        blanks = " " * (width - width_of(cell))
        laid.append(blanks + cell if at in numbers else cell + blanks)
    return _GAP.join(laid).rstrip()


def fitted(widths: Sequence[int], width: int) -> list[int]:
    """Narrow the widest columns until all fit side by side; where none can, keep the first that do."""
    for widest in (60, 40, 30, 24, 20, 16, 12):
        narrowed = [min(one, widest) for one in widths]
        if sum(narrowed) + len(_GAP) * (len(narrowed) - 1) <= width:
            return narrowed
    kept = [min(one, 16) for one in widths]
    while len(kept) > 1 and sum(kept) + len(_GAP) * (len(kept) - 1) > width:
        kept.pop()
    return kept
