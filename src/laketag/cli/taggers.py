"""`laketag taggers`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from laketag.cli.options import Json
from laketag.cli.printing import print_json, tell

if TYPE_CHECKING:
    import laketag


def taggers(as_json: Json = False) -> None:
    """List the built-in taggers.

    What each reads and adds, its parameters, where its weights come from and whether they are here.
    """
    import laketag

    known = laketag.known_taggers()
    if as_json:
        print_json({"taggers": [asdict(one) for one in known]})
        return
    for one in known:
        tell([*_described(one), ""])
    tell(["One's own: --with module:attribute, a function with @laketag.tagger or a class."])


def _described(one: laketag.Known) -> list[str]:
    columns = ", ".join(f"{name} {kind}" for name, kind in one.columns.items())
    lines = [one.name, f"  reads    {', '.join(one.reads)}", f"  adds     {columns}"]
    if one.parameters:
        lines.append(f"  takes    {', '.join(f'{name}=' for name in one.parameters)}")
    lines.append(f"  weights  {one.weights}")
    if not one.is_here:
        lines.append(f"  not here pip install '{one.install}'")
    elif one.downloads:
        lines.append(f"  not here {' and '.join(one.downloads)}: downloaded by the first run")
    return lines
