"""Two writers doing everything at random while a tagger is killed and started again, over and over.

    python tests/stress.py [--seconds 40] [--seed 1]

The label of a row is the digest of its image, so that every row can be checked in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lance
import pyarrow as pa

from fakes import DigestLabel
from laketag.tagging.run import tag

TAG = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from fakes import DigestLabel
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings
tag(sys.argv[1], [DigestLabel()], settings=TagSettings(chunk_rows=50))
"""


@dataclass
class Writer:
    """Another program that writes to the dataset, with operations of its own choice."""

    uri: str
    random: random.Random
    ids: list[int]
    done: Counter[str] = field(default_factory=Counter)

    def work(self, ended: threading.Event) -> None:
        """Write until told to stop; an operation that loses a race against others is given up."""
        operations: list[Callable[[lance.LanceDataset], object]] = [
            *(self.append, self.append, self.delete, self.replace, self.replace, self.update, self.merge),
            *(self.replace_in_place, self.compact, self.add_column, self.drop_column, self.index),
            *(self.config, self.restore),
        ]
        while not ended.is_set():
            operation = self.random.choice(operations)
            try:
                operation(lance.dataset(self.uri))
                self.done[operation.__name__] += 1
            except (OSError, ValueError, RuntimeError) as error:
                self.done[f"{operation.__name__} lost: {type(error).__name__}"] += 1
            time.sleep(self.random.uniform(0, 0.1))

    def append(self, dataset: lance.LanceDataset) -> None:
        start = self.ids[0]
        self.ids[0] += 1000
        dataset.insert(rows(range(start, start + self.random.randint(1, 60))))

    def delete(self, dataset: lance.LanceDataset) -> None:
        dataset.delete(f"number % 97 = {self.random.randrange(97)}")

    def replace(self, dataset: lance.LanceDataset) -> None:
        new = self.random.randbytes(12).hex()
        dataset.update({"jpg": f"X'{new}'"}, where=f"number % 61 = {self.random.randrange(61)}")

    def replace_in_place(self, dataset: lance.LanceDataset) -> None:
        fragment = self.random.choice(dataset.get_fragments())
        numbers = fragment.to_table(columns=["number"])["number"].combine_chunks()[:5]
        images = pa.array([self.random.randbytes(20) for _ in numbers], pa.binary())
        new = pa.table({"number": numbers, "jpg": images})
        updated, fields = fragment.update_columns(new, left_on="number")
        operation = lance.LanceOperation.Update(
            updated_fragments=[updated], fields_modified=fields, update_mode="rewrite_columns"
        )
        lance.LanceDataset.commit(self.uri, operation, read_version=dataset.version)

    def restore(self, dataset: lance.LanceDataset) -> None:
        version = self.random.randint(max(1, dataset.version - 30), dataset.version)
        lance.dataset(self.uri, version=version).restore()

    def update(self, dataset: lance.LanceDataset) -> None:
        dataset.update({"number": "number"}, where=f"number % 61 = {self.random.randrange(61)}")

    def merge(self, dataset: lance.LanceDataset) -> None:
        some = dataset.to_table(filter=f"number % 89 = {self.random.randrange(89)}")
        images = pa.array([self.random.randbytes(20) for _ in range(len(some))], pa.binary())
        new = some.set_column(some.schema.get_field_index("jpg"), "jpg", images)
        dataset.merge_insert("number").when_matched_update_all().execute(new)

    def compact(self, dataset: lance.LanceDataset) -> None:
        target = self.random.choice([40, 150, 10_000])
        dataset.optimize.compact_files(target_rows_per_fragment=target, materialize_deletions_threshold=0.0)

    def add_column(self, dataset: lance.LanceDataset) -> None:
        dataset.add_columns({f"other{self.random.randrange(4)}": "number + 1"})

    def drop_column(self, dataset: lance.LanceDataset) -> None:
        others = [name for name in dataset.schema.names if name.startswith("other")]
        if others:
            dataset.drop_columns([self.random.choice(others)])

    def index(self, dataset: lance.LanceDataset) -> None:
        columns = [name for name in ("number", "SHA256") if name in dataset.schema.names]
        dataset.create_scalar_index(self.random.choice(columns), "BTREE", replace=True)

    def config(self, dataset: lance.LanceDataset) -> None:
        dataset.update_config({"someone": str(self.random.random())})


def rows(numbers: range) -> pa.Table:
    """Make rows whose images differ."""
    images = pa.array([os.urandom(40) for _ in numbers], pa.binary())
    return pa.table({"jpg": images, "number": pa.array(list(numbers), pa.int64())})


def stress(folder: str, seconds: float, seed: int, *, stable_row_ids: bool) -> dict[str, object]:
    """Run it; returns what was done and what was found wrong, all zeros where nothing was."""
    chance = random.Random(seed)
    ids = [1000]
    lance.write_dataset(
        rows(range(1000)), folder, max_rows_per_file=170, enable_stable_row_ids=stable_row_ids
    )
    ended = threading.Event()
    writers = [Writer(folder, random.Random(chance.random()), ids) for _ in range(2)]
    threads = [threading.Thread(target=writer.work, args=(ended,)) for writer in writers]
    for thread in threads:
        thread.start()
    until, starts, wrong, ended_as = time.monotonic() + seconds, 0, "", Counter[str]()
    while time.monotonic() < until:
        process = subprocess.Popen([sys.executable, "-c", TAG, folder], stderr=subprocess.PIPE, text=True)
        starts += 1
        try:
            _, said = process.communicate(timeout=chance.uniform(0.3, 4.0))
            ended_as["finished" if process.returncode == 0 else _reason(said)] += 1
            if process.returncode and "CommitError" not in said:
                wrong = said
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            ended_as["killed"] += 1
    ended.set()
    for thread in threads:
        thread.join()
    tag(folder, [DigestLabel()])
    return {
        "starts": starts,
        "ended": dict(ended_as),
        "versions": lance.dataset(folder).version,
        "operations": dict(sum((writer.done for writer in writers), Counter())),
        "unexpected": wrong,
        **check(folder),
    }


def _reason(said: str) -> str:
    """Shorten what a run said last, so that reasons can be counted."""
    return re.sub(r"version \d+|/\S+|column file \w+", "...", said.strip().splitlines()[-1])[:90]


def check(folder: str) -> dict[str, int]:
    """Hold every row against its image: all zeros where all is right."""
    dataset = lance.dataset(folder)
    dataset.validate()
    found = dataset.to_table(columns=["jpg", "number", "SHA256"]).to_pylist()
    return {
        "null": sum(row["SHA256"] is None for row in found),
        # Through whatever index on the labels is there.
        "not found": len({row["SHA256"] for row in found} - _found_again(dataset, found)),
        "wrong": sum(
            row["SHA256"] is not None and row["SHA256"] != hashlib.sha256(row["jpg"]).hexdigest()
            for row in found
        ),
        "duplicate": len(found) - len({row["number"] for row in found}),
    }


def _found_again(dataset: lance.LanceDataset, rows: list[dict[str, str]]) -> set[str]:
    again: set[str] = set()
    for start in range(0, len(rows), 100):
        labels = ", ".join(f"'{row['SHA256']}'" for row in rows[start : start + 100])
        table = dataset.to_table(columns=["SHA256"], filter=f"SHA256 in ({labels})")
        again.update(table["SHA256"].to_pylist())
    return again


def main() -> None:
    """Run the long form, with stable row ids and without."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    asked = parser.parse_args()
    for stable in (True, False):
        folder = tempfile.mkdtemp(prefix="laketag-stress-")
        shutil.rmtree(folder)
        print(f"seed {asked.seed}, stable row ids {stable}:")
        for key, value in stress(folder, asked.seconds, asked.seed, stable_row_ids=stable).items():
            print(f"  {key}: {value}")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
