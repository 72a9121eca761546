"""How long each page of the gallery and the report take at 10,000, 100,000 and 1,000,000 rows.

Each page is asked for as a browser does, with another filter every time, so that nothing is remembered.

python benchmarks/pages.py [--long] [--rows 10000,100000,1000000]
"""

from __future__ import annotations

import io
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import bench
import lance
import numpy as np
import pyarrow as pa
import uvicorn
from PIL import Image

import laketag
from laketag.gallery.app import gallery
from laketag.gallery.cached import CachedDataset
from laketag.gallery.serving import Address, listening
from laketag.lake.location import Location

AT_ONCE = 50_000
PICTURES = 200
REPEATS = 5


def schema() -> pa.Schema:
    """Give rows as import and two taggers leave them."""
    label = {"laketag": json.dumps({"tagger": "aesthetic", "model": "none"})}
    quality = {"laketag": json.dumps({"tagger": "quality", "model": "none"})}
    return pa.schema(
        [
            ("__key__", pa.string()),
            ("__url__", pa.string()),
            ("jpg", pa.binary()),
            ("txt", pa.string()),
            ("width", pa.int64()),
            pa.field("AESTHETIC_SCORE", pa.float32(), metadata=label),
            pa.field("AESTHETIC_TAG", pa.string(), metadata=label),
            pa.field("AESTHETIC_ERROR", pa.string(), metadata=label),
            pa.field("SHARPNESS", pa.float32(), metadata=quality),
            pa.field("DHASH", pa.int64(), metadata=quality),
        ]
    )


def make(uri: str, rows: int) -> None:
    """Write a dataset of tiny images with random labels, always the same."""
    rng = np.random.default_rng(0)
    pictures = np.array([_picture(rng) for _ in range(PICTURES)], dtype=object)

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, rows, AT_ONCE):
            numbers = np.arange(first, min(first + AT_ONCE, rows))
            yield _batch(numbers, pictures, rng)

    reader = pa.RecordBatchReader.from_batches(schema(), batches())
    lance.write_dataset(reader, uri, max_rows_per_file=100_000, enable_stable_row_ids=True)
    laketag.add_column(uri, "BAND", "case when width < 1000 then 'narrow' else 'wide' end")
    laketag.add_column(uri, "BAND", "case when width < 1100 then 'narrow' else 'wide' end", replace=True)


def _batch(numbers: np.ndarray, pictures: np.ndarray, rng: np.random.Generator) -> pa.RecordBatch:
    count = len(numbers)
    scores = rng.normal(5, 1.3, count).clip(0, 10).astype(np.float32)
    bad = rng.random(count) < 0.01
    tags = np.select(
        [bad, scores > 7.1, scores > 5.5, scores > 3.7],
        ["error", "very aesthetic", "aesthetic", "displeasing"],
        "very displeasing",
    )
    columns = [
        pa.array([f"key{number:09d}" for number in numbers]),
        pa.array([f"shards/{number // 10_000:06d}.tar" for number in numbers]),
        pa.array(pictures[rng.integers(0, PICTURES, count)].tolist(), pa.binary()),
        pa.array([f"caption {number} of a thing" for number in numbers]),
        pa.array(rng.integers(100, 4000, count)),
        pa.array(scores, mask=bad),
        pa.array(tags.tolist()),
        pa.array(["truncated image"] * count, mask=~bad),
        pa.array(rng.gamma(2, 300, count).astype(np.float32), mask=bad),
        pa.array(rng.integers(-(2**63), 2**63 - 1, count), mask=bad),
    ]
    return pa.record_batch(columns, schema=schema())


def _picture(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    shades = rng.integers(0, 255, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(shades).resize((48, 36)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


PAGES = {
    "filter by SQL": "/?where=AESTHETIC_SCORE+%3E+{a}",
    "filter by range": "/?min.SHARPNESS={b}&max.AESTHETIC_SCORE={a}",
    "filter by tag": "/?tag.AESTHETIC_TAG=aesthetic&min.SHARPNESS={b}",
    "filter by text": "/?where=txt+like+%27%25{n}%25%27",
    "sort": "/?sort={sort}",
    "filter and sort": "/?where=AESTHETIC_SCORE+%3E+{a}&sort=SHARPNESS+desc",
    "next page": "/more?where=AESTHETIC_SCORE+%3E+{a}&sort=SHARPNESS&offset=600",
    "an image's page": "/row/{n}?where=AESTHETIC_SCORE+%3E+{a}",
    "images like it": "/alike/{n}",
    "two versions side by side": "/compare?with=2&column={column}",
}
"""What is asked for; the names in braces differ every time."""

COLUMNS = ("BAND", "AESTHETIC_SCORE", "AESTHETIC_TAG", "SHARPNESS", "width")
SORTS = ("AESTHETIC_SCORE", "AESTHETIC_SCORE+desc", "SHARPNESS", "SHARPNESS+desc", "width")


def path(name: str, turn: int) -> str:
    """Fill in an address with a filter that was not asked for before."""
    turn += REPEATS * list(PAGES).index(name)
    sort = SORTS[turn % len(SORTS)]
    column = COLUMNS[turn % len(COLUMNS)]
    facts = {"a": 4.5 + turn / 25, "b": 100 + 10 * turn, "n": 777 + turn * 11}
    return PAGES[name].format(**facts, sort=sort, column=column)


@contextmanager
def served(uri: str) -> Iterator[HTTPConnection]:
    """Serve a dataset, and give a connection to it."""
    with listening(Address(port=0)) as listener:
        app = gallery(CachedDataset(Location.of(uri), None))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        connection = HTTPConnection("127.0.0.1", listener.getsockname()[1], timeout=60)
        try:
            yield connection
        finally:
            connection.close()
            server.should_exit = True
            thread.join()


def ask(connection: HTTPConnection, address: str) -> tuple[float, str]:
    """Ask for a page; gives its seconds and its text."""
    started = time.perf_counter()
    connection.request("GET", address)
    answer = connection.getresponse()
    text = answer.read().decode(errors="replace")
    assert answer.status == 200, f"{address}: {answer.status}"
    return time.perf_counter() - started, text


def page_seconds(uri: str) -> dict[str, float]:
    """Time every page: the median of some, the very first one alone."""
    with served(uri) as connection:
        first, text = ask(connection, "/")
        found = {"first page of a new server": first}
        for name in PAGES:
            times = [ask(connection, path(name, turn))[0] for turn in range(REPEATS)]
            found[name] = sorted(times)[REPEATS // 2]
        pictures = re.findall(r'src="(/thumbnail/[^"]+)"', text)
        started = time.perf_counter()
        for picture in pictures:
            ask(connection, picture)
        found[f"{len(pictures)} small pictures, one by one"] = time.perf_counter() - started
    return found


def main() -> None:
    asked = bench.asked(__doc__, rows=("10000,100000", "10000,100000,1000000"))
    figures: dict[str, int | float] = {}
    for rows in map(int, asked.rows.split(",")):
        folder = tempfile.mkdtemp()
        uri = f"{folder}/many.lance"
        make(uri, rows)
        figures |= {f"{rows:,} rows: {name}": seconds for name, seconds in page_seconds(uri).items()}
        made = laketag.report(uri, f"{folder}/many.html")
        figures |= {f"{rows:,} rows: report": made.seconds, f"{rows:,} rows: bytes of the report": made.bytes}
        shutil.rmtree(folder)
    bench.finish("pages", figures, long=asked.long)


if __name__ == "__main__":
    main()
