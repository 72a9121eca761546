"""What earlier imports read: shards with their size, time and ledger, kept beside the dataset."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from laketag.errors import JobRefused
from laketag.lake.dataset import exists, open_dataset
from laketag.lake.lineage import ancestors
from laketag.lake.location import Location
from laketag.lake.presence import KEY, URL, keys_of, rows_by_url
from laketag.lake.staged import IMPORTED, StagedFiles
from laketag.lake.transactions import JOB_KEY, version_with
from laketag.shards.ledger import Ledger
from laketag.shards.shard import Shard

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

_ANNOUNCED = "announced"


@dataclass(frozen=True)
class Imported:
    """One shard, as an import found it."""

    size: int
    """Its bytes then."""
    modified: int
    """When it was last written."""
    etag: str
    """Its store's mark of its bytes, where there is one."""
    folder: str
    """Where the import staged."""
    ledger: Ledger
    """What became of it."""

    @classmethod
    def of(cls, shard: Shard, folder: str, ledger: Ledger) -> Imported:
        """Note what an import made of a shard."""
        return cls(shard.size, shard.modified, shard.etag, folder, ledger)


@dataclass(frozen=True)
class Pending:
    """What is left to import of the shards that were named."""

    done: tuple[Ledger, ...]
    """Ledgers of the shards that were imported and have not changed since."""
    shards: tuple[Shard, ...]
    """Shards to read, in order."""
    have: dict[str, frozenset[str]] = field(repr=False)
    """Keys that the dataset has already, of those shards that are read again."""
    folders: frozenset[str] = frozenset()
    """Where the imports of the done shards staged; what lies there is a leftover."""


def announce(location: Location, job: str, version: int, shards: Iterable[Imported]) -> str:
    """Note what a job is about to commit on top of a version; believed only if the job made a later version.

    Returns the note's name, for `confirm`.
    """
    name = f"{_ANNOUNCED}-{version:020d}-{job}-{uuid.uuid4().hex}.lance"
    _write(location, name, shards)
    return name


def confirm(location: Location, version: int, shards: Iterable[Imported], announced: str | None) -> None:
    """Note what was committed as a version, instead of what was announced."""
    _write(location, f"{version:020d}-{time.time_ns():020d}-{uuid.uuid4().hex}.lance", shards)
    StagedFiles(location, IMPORTED).delete([announced] if announced else [])


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
    known = _known(location, {shard.url for shard in shards})
    rows = rows_by_url(dataset, [shard.url for shard in shards])
    done = _done(dataset, shards, known, rows)
    pending = [shard for shard in shards if shard.url not in done]
    new = [shard.url for shard in pending if not rows[shard.url] and shard.url not in known]
    if new and not append and dataset.count_rows() > 0:
        raise JobRefused(
            f"{location.uri} exists, and does not have {len(new)} of the shards (first {new[0]}); "
            "add them with --append, or import into another place"
        )
    have = keys_of(dataset, [shard.url for shard in pending if rows[shard.url]])
    folders = frozenset(each.folder for each in done.values())
    return Pending(tuple(each.ledger for each in done.values()), tuple(pending), have, folders)


def _done(
    dataset: LanceDataset,
    shards: Sequence[Shard],
    known: Mapping[str, tuple[int, Imported]],
    rows: Mapping[str, int],
) -> dict[str, Imported]:
    """Find the shards of which there is nothing to add: all rows are there, or were deleted by somebody.

    Where a restore went back behind an import, rows are gone that nobody deleted.
    """
    same = {
        shard.url: known[shard.url]
        for shard in shards
        if shard.url in known and _is_same(known[shard.url][1], shard)
    }
    fewer = {url: version for url, (version, found) in same.items() if rows[url] < found.ledger.samples}
    kept = ancestors(dataset, min(fewer.values())) if any(rows[url] for url in fewer) else frozenset()
    return {
        url: found
        for url, (version, found) in same.items()
        if url not in fewer or (rows[url] and version in kept)
    }


def _is_same(found: Imported, shard: Shard) -> bool:
    return (found.size, found.modified, found.etag) == (shard.size, shard.modified, shard.etag)


def _write(location: Location, name: str, shards: Iterable[Imported]) -> None:
    texts = [json.dumps(asdict(each)) for each in shards]
    StagedFiles(location, IMPORTED).write(name, pa.table({"shard": pa.array(texts, pa.string())}))


def _known(location: Location, urls: set[str]) -> dict[str, tuple[int, Imported]]:
    """Read the latest note on each shard, and the version that it is of."""
    staged = StagedFiles(location, IMPORTED)
    dated = []
    for name in staged.names():
        version = _announced(location, name) if name.startswith(_ANNOUNCED) else int(name[:20])
        if version is not None:
            # Of a version, what was announced came before all else that was noted.
            dated.append((version, not name.startswith(_ANNOUNCED), name))
    known = {}
    for version, _, name in sorted(dated):
        for text in staged.read(name)["shard"].to_pylist():
            entry = json.loads(text)
            ledger = Ledger(**entry.pop("ledger"))
            if ledger.shard in urls:
                known[ledger.shard] = version, Imported(**entry, ledger=ledger)
    return known


def _announced(location: Location, name: str) -> int | None:
    """Find the version that an announced job made: an import may have ended between its commit and note."""
    _, before, job, _ = name.split("-")
    return version_with(open_dataset(location), JOB_KEY, job, after=int(before))
