"""What earlier imports read: shards with their size, time and ledger, kept beside the dataset."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from laketag.errors import JobRefused
from laketag.lake.dataset import exists, open_dataset
from laketag.lake.location import Location
from laketag.lake.presence import KEY, URL, keys_of, present_urls
from laketag.lake.staged import StagedFiles
from laketag.shards.ledger import Ledger
from laketag.shards.sources import Shard

_FOLDER = "imported"


@dataclass(frozen=True)
class Pending:
    """What is left to import of the shards that were named."""

    done: tuple[Ledger, ...]
    """Ledgers of the shards that were imported and have not changed since."""
    shards: tuple[Shard, ...]
    """Shards to read, in order."""
    have: dict[str, frozenset[str]] = field(repr=False)
    """Keys that the dataset has already, of those shards that are read again."""


def record_imported(
    location: Location, version: int, shards: Iterable[Shard], ledgers: Iterable[Ledger]
) -> None:
    """Keep the ledgers of an import that is about to be committed on top of a version."""
    rows = [
        json.dumps({"size": shard.size, "modified": shard.modified, "ledger": asdict(ledger)})
        for shard, ledger in zip(shards, ledgers, strict=True)
    ]
    # The rows are the truth: a ledger without rows is not believed, so it may be written before the commit.
    name = f"{version:020d}-{uuid.uuid4().hex}.lance"
    StagedFiles(location, _FOLDER).write(name, pa.table({"shard": rows}))


def find_pending(location: Location, shards: Sequence[Shard], *, append: bool) -> Pending:
    """Leave out the shards that the dataset has.

    A shard that changed since, or whose rows are gone, is read again; only its missing samples will be added.

    Raises:
        JobRefused: there are new shards, and a dataset that they were not meant for.
    """
    if not exists(location):
        return Pending((), tuple(shards), {})
    dataset = open_dataset(location)
    if not {KEY, URL} <= set(dataset.schema.names):
        raise JobRefused(
            f"the dataset {location.uri} has no columns {KEY} and {URL}: laketag did not import it; "
            "import into another place"
        )
    known = _read_imported(location, {shard.url for shard in shards})
    present = present_urls(dataset, [shard.url for shard in shards])
    done, pending = [], []
    for shard in shards:
        size, modified, ledger = known.get(shard.url, (-1, -1, Ledger(shard.url)))
        is_there = shard.url in present or ledger.samples == 0
        if (size, modified) == (shard.size, shard.modified) and is_there:
            done.append(ledger)
        else:
            pending.append(shard)
    new = [shard.url for shard in pending if shard.url not in present and shard.url not in known]
    if new and not append and dataset.count_rows() > 0:
        raise JobRefused(
            f"the dataset {location.uri} exists, and {len(new)} shards are not in it (first {new[0]}); "
            "add them with --append, or import into another place"
        )
    again = [shard.url for shard in pending if shard.url in present]
    return Pending(tuple(done), tuple(pending), keys_of(dataset, again))


def _read_imported(location: Location, urls: set[str]) -> dict[str, tuple[int, int, Ledger]]:
    staged = StagedFiles(location, _FOLDER)
    found = {}
    # Later versions sort later, and what they say counts.
    for name in staged.names():
        for text in staged.read(name)["shard"].to_pylist():
            entry = json.loads(text)
            if entry["ledger"]["shard"] in urls:
                found[entry["ledger"]["shard"]] = (
                    entry["size"],
                    entry["modified"],
                    Ledger.from_json(entry["ledger"]),
                )
    return found
