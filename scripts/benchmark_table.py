"""Write the figures of `benchmarks/results/` into the pages that show them; `--check` only compares.

A cell's figure stands between `<!-- NAME: KEY -->` and the next `|`. One that is not of the long form says
so.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("benchmarks/README.md", "docs/scale.md", "README.md", "README.zh-CN.md")]
_FIGURE = re.compile(r"(<!-- (\w+): (.*?) -->)[^|<]*")


def filled(text: str) -> str:
    """Fill in every figure of a text."""
    return _FIGURE.sub(lambda match: f"{match[1]} {_said(match[2], match[3])} ", text)


def _said(name: str, key: str) -> str:
    file = ROOT / "benchmarks" / "results" / f"{name}.json"
    if not file.exists():
        return "not run yet"
    result = json.loads(file.read_text())
    value = result["figures"].get(key, "not measured")
    said = value if isinstance(value, str) else f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
    return said if result.get("form", "long") == "long" else f"{said} (short form)"


def main() -> int:
    """Write the pages, or say which are stale."""
    stale = [page for page in PAGES if filled(page.read_text()) != page.read_text()]
    if "--check" in sys.argv:
        for page in stale:
            print(f"{page.relative_to(ROOT)} is stale: python scripts/benchmark_table.py", file=sys.stderr)
        return int(bool(stale))
    for page in stale:
        page.write_text(filled(page.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
