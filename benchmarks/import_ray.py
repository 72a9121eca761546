"""The Ray side of `import.py`: `ray.data.read_webdataset` into a Lance dataset; prints its seconds.

PYTHONPATH=.venv/pandas python benchmarks/import_ray.py FOLDER TAR...

Ray Data needs pandas, which `make` keeps apart. Ray's start, and a first run, are not counted. Ray's own
`write_lance` does not work with this pylance, so its rows are written as it writes them: a block, a fragment.
"""

from __future__ import annotations

import pickle
import sys
import time
from typing import Any

import lance
import pyarrow as pa
import ray

SCHEMA = pa.schema(
    [
        pa.field("__key__", pa.string()),
        pa.field("jpg", pa.binary(), metadata={"lance-encoding:compression": "none"}),
        pa.field("json", pa.binary()),
    ]
)


def read_and_write(tars: list[str], to: str) -> None:
    """Import shards as a program of Ray's would."""

    def write(block: pa.Table) -> pa.Table:
        rows = block.select(SCHEMA.names).cast(SCHEMA)
        made = lance.fragment.write_fragments(rows, to, schema=SCHEMA, mode="create")
        return pa.table({"made": [pickle.dumps(fragment) for fragment in made]})

    blocks = ray.data.read_webdataset(tars, decoder=None)
    written: list[dict[str, Any]] = blocks.map_batches(
        write, batch_format="pyarrow", batch_size=None
    ).take_all()
    made = [pickle.loads(row["made"]) for row in written]
    lance.LanceDataset.commit(to, lance.LanceOperation.Overwrite(SCHEMA, made))


def main() -> None:
    """Run it twice and time the second."""
    folder, *tars = sys.argv[1:]
    ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    ray.data.DataContext.get_current().enable_progress_bars = False
    for number in range(2):
        started = time.perf_counter()
        read_and_write(tars, f"{folder}/ray-{number}")
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
