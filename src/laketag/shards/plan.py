"""What an import has to do: the shards that are left, grouped into tasks, and how their rows are stored."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from laketag.errors import JobRefused, ShardRefused, WrongUsage
from laketag.lake.dataset import IMAGE_NAMES, exists, is_blob, is_image_like, open_dataset
from laketag.lake.location import Location
from laketag.lake.staged import IMPORT
from laketag.lake.writing import STORAGE_VERSION
from laketag.shards.form import Form
from laketag.shards.imported import Pending, find_pending
from laketag.shards.reading import ImportTask
from laketag.shards.schema import SOURCE, decode_source
from laketag.shards.settings import ImportSettings
from laketag.shards.shard import Shard
from laketag.shards.sources import shards_in

TASK_BYTES = 256 << 20
"""Small shards are read together up to this size, so that many of them do not make as many fragments."""
_LEAST, _TASKS = 32 << 20, 8
"""An import of less is divided all the same, so that several workers have something to do."""


@dataclass(frozen=True)
class Job:
    """All the work of one import, as a value."""

    location: Location
    settings: ImportSettings
    shards: tuple[Shard, ...]
    pending: Pending
    form: Form
    existing: pa.Schema | None
    rows_before: int

    @property
    def digest(self) -> str:
        """What determines the staged files: the same command finds them again."""
        shards = [(shard.url, shard.size, shard.modified, shard.etag) for shard in self.pending.shards]
        have = {url: sorted(keys) for url, keys in sorted(self.pending.have.items())}
        form = {**asdict(self.form), "blobs": sorted(self.form.blobs), "plain": sorted(self.form.plain)}
        groups = [len(group) for group in self.groups]
        return hashlib.sha256(json.dumps([shards, have, form, groups]).encode()).hexdigest()[:32]

    @property
    def folder(self) -> str:
        """Where the job stages; nowhere in a dry run."""
        return "" if self.settings.dry_run else f"{IMPORT}{self.digest}"

    @property
    def groups(self) -> list[list[Shard]]:
        """Which shards are read together: a large one alone, small ones in order."""
        groups: list[list[Shard]] = []
        total, size = sum(shard.size for shard in self.pending.shards), 0
        most = min(TASK_BYTES, max(_LEAST, total // _TASKS))
        for shard in self.pending.shards:
            if not groups or size + shard.size > most:
                groups.append([])
                size = 0
            groups[-1].append(shard)
            size += shard.size
        return groups

    def tasks(self) -> list[ImportTask]:
        """Make a task of each group."""
        folder, have = self.folder, self.pending.have
        return [
            ImportTask(
                index,
                self.location,
                folder,
                tuple(group),
                self.form,
                {s.url: have[s.url] for s in group if s.url in have},
                self.existing,
            )
            for index, group in enumerate(self.groups)
        ]


def plan(shards: Sequence[Shard], location: Location, settings: ImportSettings) -> Job:
    """Look at the dataset, if there is one, and say what is left to do.

    Raises:
        JobRefused: there are new shards, and a dataset that they were not meant for.
        WrongUsage: there is no dataset, and shards lie in its place.
    """
    pending = find_pending(location, shards, append=settings.append)
    existing, rows, storage_version = None, 0, STORAGE_VERSION
    if exists(location):
        dataset = open_dataset(location)
        existing, rows, storage_version = dataset.schema, dataset.count_rows(), dataset.data_storage_version
    else:
        _refuse_a_folder_of_shards(location)
    members: dict[bool, set[str]] = {True: set(), False: set()}
    for each in existing or ():
        source = decode_source((each.metadata or {}).get(SOURCE, b""))
        if source.startswith("member:") and is_image_like(each):
            members[is_blob(each)].add(source[7:])
    form = Form(
        storage_version,
        settings.rows_per_fragment,
        new_images_are_blobs=settings.link or settings.image_encoding == "blob",
        blobs=frozenset(members[True]),
        links=settings.link,
        plain=frozenset(members[False]),
    )
    if settings.link:
        _check_links(location, pending, form)
    return Job(location, settings, tuple(shards), pending, form, existing, rows)


def _refuse_a_folder_of_shards(location: Location) -> None:
    # It was meant as one more argument, and the dataset was forgotten.
    if location.is_local and os.path.isdir(location.uri) and (others := shards_in(location.uri)):
        raise WrongUsage(
            f"{location.uri} is a folder of shards ({others[0]}), not a place for a dataset; "
            "name the dataset after the shards"
        )


def _check_links(location: Location, pending: Pending, form: Form) -> None:
    """Refuse to link what could not be read by its link, or would be wrong."""
    for shard in pending.shards:
        place = shard.place
        has_its_options = location.is_local or place.storage_options == location.storage_options
        if place.scheme != location.scheme or not has_its_options:
            raise ShardRefused(
                f"rows of {location.uri} cannot point into {shard.url}: linked tars lie where the dataset "
                "does, on this machine or on its store, with its options; import it without --link"
            )
        if shard.url in pending.have:
            raise JobRefused(
                f"shard {shard.url} changed, and rows of {location.uri} may point into it; "
                "import into another place"
            )
    if held := sorted(form.plain.intersection(IMAGE_NAMES)):
        raise JobRefused(
            f"{location.uri} holds copies of images ({held[0]}); add shards without --link, "
            "or import into another place"
        )
