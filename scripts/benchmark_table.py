"""Write the figures of `benchmarks/results/` into `benchmarks/README.md`; `--check` only compares.

A cell's figure stands between `<!-- NAME: KEY -->` and the next `|`.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
_FIGURE = re.compile(r"(<!-- (\w+): (.*?) -->)[^|<]*")


def filled(text: str) -> str:
    """Fill in every figure of a text."""

    def figure(match: re.Match[str]) -> str:
        result = json.loads((BENCHMARKS / "results" / f"{match[2]}.json").read_text())
        value = result["figures"][match[3]]
        return f"{match[1]} {value:,.2f} " if isinstance(value, float) else f"{match[1]} {value:,} "

    return _FIGURE.sub(figure, text)


def main() -> int:
    """Write the table, or say that it is stale."""
    page = BENCHMARKS / "README.md"
    before = page.read_text()
    after = filled(before)
    if "--check" in sys.argv:
        if after != before:
            print("benchmarks/README.md is stale: python scripts/benchmark_table.py", file=sys.stderr)
        return int(after != before)
    page.write_text(after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
