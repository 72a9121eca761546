"""What an export has done so far, noted beside its shards, so that the same command goes on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from laketag.errors import JobRefused
from laketag.lake.pinning import JOB_LENGTH
from laketag.shards.pattern import Pattern
from laketag.shards.putting import DONE, JOB, Put


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, with the names that `--json` prints."""

    uri: str
    """The dataset."""
    version: int
    """Its version that was exported."""
    folder: str
    """Where the shards are."""
    shards: int
    """How many there are."""
    samples: int
    """Rows in them."""
    bytes: int
    """Their size."""
    shards_written: int
    """Shards that this command wrote; the others were there already."""
    renamed: int
    """Samples whose key could not stay as it is; their JSON tells it as `__key__`."""
    index: str | None
    """The index that wids reads; None where the shards are no tars."""
    seconds: float
    """How long it took."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag export --json` prints it."""
        return dict(vars(self))


@dataclass(frozen=True)
class Begun:
    """An export that was begun in a place."""

    digest: str
    version: int
    finished: tuple[Put, ...] | None
    """Its shards, where it came to its end."""
    hold: str
    """Stands for it at the dataset, which keeps the version for it."""


def begun(pattern: Pattern) -> Begun | None:
    """Find the export that was begun under a pattern; one that left no shard is none to go on with."""
    job = _noted(pattern)
    return job if job is not None and _shards_there(pattern) else None


def begin(pattern: Pattern, digest: str, version: int) -> Begun:
    """Note that an export begins.

    Raises:
        JobRefused: the place has shards that are not its own.
    """
    others = _shards_there(pattern)
    if others:
        raise JobRefused(
            f"{pattern.path(others[0])} is there already and not of this export; "
            "name another folder, or delete it"
        )
    # One that was killed before its first shard may have left something that holds a version.
    before = _noted(pattern)
    job = Begun(digest, version, None, before.hold if before is not None else _new_hold())
    _note(pattern, job)
    _forget(pattern)
    return job


def found(pattern: Pattern, job: Begun) -> dict[int, Put]:
    """List the shards that are in their place, by number."""
    puts = list(job.finished or ())
    for name in pattern.state.names():
        if name.endswith(DONE) and not name.startswith("."):
            puts.append(Put.of(name))
    there = set(pattern.folder.names())
    return {put.index: put for put in puts if pattern.name(put.index) in there}


def finish(pattern: Pattern, job: Begun, puts: Mapping[int, Put]) -> None:
    """Note that all shards are there, write the index, and sweep."""
    ordered = [puts[index] for index in sorted(puts)]
    names = [pattern.name(put.index) for put in ordered]
    if pattern.is_tar:
        shards = [
            {"url": name, "nsamples": put.samples, "filesize": put.bytes}
            for name, put in zip(names, ordered, strict=True)
        ]
        index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": shards}
        pattern.folder.write(pattern.index, (json.dumps(index, indent=1) + "\n").encode())
    _note(pattern, replace(job, finished=tuple(ordered)))
    _forget(pattern)
    pattern.state.sweep([JOB, *(put.note for put in ordered)])
    pattern.folder.sweep([*names, pattern.index])


def _shards_there(pattern: Pattern) -> list[str]:
    return [name for name in pattern.folder.names() if pattern.is_name(name)]


def _forget(pattern: Pattern) -> None:
    """Delete the notes on single shards."""
    pattern.state.delete(name for name in pattern.state.names() if name.endswith(DONE))


def _noted(pattern: Pattern) -> Begun | None:
    text = pattern.state.read(JOB)
    if text is None:
        return None
    values = json.loads(text)
    finished = values["shards"]
    puts = None if finished is None else tuple(Put(*each) for each in finished)
    return Begun(values["digest"], values["version"], puts, values.get("hold") or _new_hold())


def _note(pattern: Pattern, job: Begun) -> None:
    finished = job.finished
    shards = None if finished is None else [[p.index, p.samples, p.bytes, p.renamed] for p in finished]
    text = json.dumps({"digest": job.digest, "version": job.version, "shards": shards, "hold": job.hold})
    pattern.state.write(JOB, text.encode())


def _new_hold() -> str:
    """Name an export apart from all others, and short enough that its pin has all of the name."""
    return f"export{uuid.uuid4().hex}"[:JOB_LENGTH]
