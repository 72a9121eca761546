"""`clean`: what broken jobs left, and old versions; nothing that runs or has a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any

from laketag.errors import JobRefused, MissingExtra, StoreError
from laketag.lake import links, probing
from laketag.lake.adding import IMPORTING
from laketag.lake.dataset import PIN_PREFIX, open_dataset
from laketag.lake.explaining import explaining
from laketag.lake.freeing import compact_fragments, free_versions, staged_age
from laketag.lake.lease import Lease
from laketag.lake.location import Location
from laketag.lake.pinning import JOB_LENGTH
from laketag.lake.staged import CHECKED, IMPORT, IMPORTED, LEASE, StagedFiles, is_leftover
from laketag.lake.uploads import abort_uploads

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

TWO_WEEKS = timedelta(days=14)
# Without these a later import would read again what it need not; so would a run without `CHECKED` of its job.
_KEPT = (IMPORTED, probing.FOLDER, links.FOLDER)
# An import without a lease is taken for dead once it staged nothing for so many seconds.
_IMPORT_RESTS = 3600.0


@dataclass(frozen=True)
class Leftover:
    """Staged work of a job that does not run."""

    job: str
    """Its folder below `_laketag/`."""
    files: int


@dataclass(frozen=True)
class Kept:
    """What is left alone, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class CleanReport:
    """What was deleted, or would be."""

    uri: str
    version: int
    """The dataset's version after it."""
    deleted: bool
    """Whether it was done; else nothing was touched."""
    staged: tuple[Leftover, ...]
    pins: tuple[str, ...]
    """Lance tags of runs that died."""
    versions: int
    """Old versions."""
    files: int
    """Their files, and orphans."""
    bytes: int
    """Of those files."""
    uploads: int
    """Multipart uploads that killed writers left on the store."""
    compacted: int
    """Fragments written again."""
    kept: tuple[Kept, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag clean --json` prints it."""
        return asdict(self)


@explaining
def clean(
    uri: str | PathLike[str],
    *,
    older_than: timedelta = TWO_WEEKS,
    yes: bool = False,
    compact: bool = False,
    storage_options: Mapping[str, str] | None = None,
) -> CleanReport:
    """Delete staged work that is old and that no run holds, old versions, and orphan files.

    Versions that have a name stay, and so does all that a running job needs. An orphan stays for 7 days, an
    upload that a killed writer left on a store for one.
    Where the store does not tell the age of staged work, it counts as young.

    Args:
        uri: the dataset's.
        older_than: how old is old; nothing says that every job that does not run is given up.
        yes: delete; else only say what would be.
        compact: first write fragments again that are small or have many deleted rows, images included.
        storage_options: for the dataset's store, as Lance takes them.

    Raises:
        DatasetNotFound: there is no dataset.
        JobRefused: it should be compacted while a job runs.
        CommitError: the store or another writer was in the way.
    """
    location = Location.of(uri, storage_options)
    # It may take hours, in which a broken run goes on: what it left is looked at afterwards.
    compacted = _compacted(location, yes=yes) if compact else 0
    dataset = open_dataset(location)
    # First: a run that begins meanwhile holds its lease before its tag, which then is not among these.
    tags = dataset.tags.list()
    folders = _folders(location)
    running = _running(folders)
    old, kept = _sorted_out(location, folders, running, older_than)
    pins = _dead_pins(tags, running, folders.keys() - old.keys())
    if yes:
        staged = StagedFiles(location, "")
        for names in old.values():
            staged.delete(names)
            staged.drop_folders(names)
        for pin in pins:
            dataset.tags.delete(pin)
    freed = free_versions(location, older_than, yes=yes)
    try:
        uploads = abort_uploads(location, older_than, yes=yes)
    except (MissingExtra, StoreError) as error:
        uploads, kept = 0, [*kept, Kept("uploads", str(error))]
    return CleanReport(
        uri=location.uri,
        version=open_dataset(location).version,
        deleted=yes,
        staged=tuple(Leftover(job, len(names)) for job, names in old.items()),
        pins=pins,
        versions=freed.versions,
        files=freed.files,
        bytes=freed.bytes,
        uploads=uploads,
        compacted=compacted,
        kept=(*kept, *_kept_versions(dataset, pins)),
    )


def _compacted(location: Location, *, yes: bool) -> int:
    """Compact where no job runs; returns how many fragments are written again, or would be."""
    open_dataset(location)  # before anything below it is listed
    running = _running(_folders(location))
    if running:
        raise JobRefused(
            f"job {min(running)[:12]} runs on {location.uri}; compact when it is done, "
            "or clean without --compact"
        )
    return compact_fragments(location, yes=yes)


def _folders(location: Location) -> dict[str, list[str]]:
    """List the staged files of each job; a job whose labels are committed has none."""
    folders: dict[str, list[str]] = {}
    for name in StagedFiles(location, "").all_names():
        job, _, rest = name.partition("/")
        if job not in _KEPT and not rest.startswith(f"{CHECKED}/"):
            folders.setdefault(job, []).append(name)
    return folders


def _running(folders: Mapping[str, list[str]]) -> set[str]:
    running = {job for job, names in folders.items() if _is_running(names)}
    # Imports have one folder of leases together, and stage each in a folder of its own.
    imports = {job for job in folders if job.startswith(IMPORT)} if IMPORTING in running else set()
    return running | imports


def _is_running(names: list[str]) -> bool:
    leases = [name.split("/") for name in names if not is_leftover(name)]
    return any(not Lease.of(parts[2]).is_dead() for parts in leases if len(parts) == 3 and parts[1] == LEASE)


def _sorted_out(
    location: Location, folders: Mapping[str, list[str]], running: set[str], older_than: timedelta
) -> tuple[dict[str, list[str]], list[Kept]]:
    """Tell the work that is given up from what is kept."""
    old, kept = {}, []
    for job, names in sorted(folders.items()):
        age = None if job in running else staged_age(location, names)
        if job in running:
            kept.append(Kept(job, "it runs"))
        elif job.startswith(IMPORT) and age is not None and age < _IMPORT_RESTS:
            kept.append(Kept(job, "an import may be at work: something was staged within the hour"))
        elif not older_than or (age is not None and age >= older_than.total_seconds()):
            old[job] = names
        elif age is None:
            kept.append(Kept(job, "the store does not tell its age; --older-than 0 deletes it"))
        else:
            kept.append(
                Kept(job, f"staged {timedelta(seconds=round(age))} ago; the same command goes on from it")
            )
    return old, kept


def _dead_pins(tags: Iterable[str], running: set[str], held: set[str]) -> tuple[str, ...]:
    """Choose the tags of runs that died and whose work is not kept."""
    alive = {job[:JOB_LENGTH] for job in running | held}
    pins = [name for name in tags if name.startswith(PIN_PREFIX)]
    return tuple(sorted(pin for pin in pins if pin.removeprefix(PIN_PREFIX).partition("-")[0] not in alive))


def _kept_versions(dataset: LanceDataset, pins: tuple[str, ...]) -> list[Kept]:
    return [
        Kept(f"version {held['version']}", f"it is named {name!r}")
        for name, held in sorted(dataset.tags.list().items())
        if name not in pins
    ]
