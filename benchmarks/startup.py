"""What a command costs when there is little to do: nothing at all, and 1,000 rows with a trivial model.

python benchmarks/startup.py [--long] [--repeats 5]
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

import bench
import lance
import pyarrow as pa

BARE = "import sys, lance; lance.dataset(sys.argv[1]).count_rows()"
NULL = """
import sys
sys.path.insert(0, sys.argv[2])
import laketag, tag_io
laketag.tag(sys.argv[1], [tag_io.Null()])
"""
HERE = str(Path(__file__).parent)
FRESH = (
    "import sys, lance; lance.dataset(sys.argv[1]).drop_columns(['NULL_LENGTH', 'NULL_ERROR', 'NULL_DIGEST'])"
)


def main() -> None:
    asked = bench.asked(__doc__, repeats=(1, 5))
    folder = tempfile.mkdtemp(prefix="laketag-bench-")
    try:
        lance.write_dataset(pa.table({"jpg": [b"image %d" % n for n in range(1000)]}), folder)
        bare = bench.process_seconds(BARE, folder, repeats=asked.repeats)
        some = []
        for _ in range(asked.repeats):
            some.append(bench.process_seconds(NULL, folder, HERE, repeats=1))
            bench.process_seconds(FRESH, folder, repeats=1)
        bench.process_seconds(NULL, folder, HERE, repeats=1)
        version = lance.dataset(folder).version
        nothing = bench.process_seconds(NULL, folder, HERE, repeats=asked.repeats)
        trivial = statistics.median(some)
        bench.finish(
            "startup",
            {
                "bare import, open, count: seconds": bare,
                "nothing to do: seconds above bare": nothing - bare,
                "nothing to do: new versions": lance.dataset(folder).version - version,
                "1,000 rows, trivial model: seconds above bare": trivial - bare,
                "ratio nothing to do / bare": nothing / bare,
                "ratio 1,000 rows / bare": trivial / bare,
            },
            long=asked.long,
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
