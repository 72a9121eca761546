"""Whether a store honours put-if-absent: one that does not loses all but one of the commits that race."""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from laketag.errors import CommitError
from laketag.lake.explaining import first_line
from laketag.lake.location import Location
from laketag.lake.patience import is_of_the_store, patiently
from laketag.lake.staged import ROOT, StagedFiles

FOLDER = "store"
"""Below `_laketag/`: a note for each store that was found to be safe."""
# A folder's files are linked, which no second writer can; s3+ddb has its commit lock in DynamoDB.
_SAFE = ("", "memory", "s3+ddb")
_WHERE = ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url", "tos_endpoint", "account_name")


def require_put_if_absent(location: Location) -> None:
    """Make sure that of two writers of one version only one succeeds.

    It costs some requests before a dataset's first commit, and one in each later process.

    Raises:
        CommitError: the store lets a second writer through, or cannot be written.
    """
    if location.scheme not in _SAFE:
        _require(location.uri, tuple(sorted(location.storage_options.items())))


@lru_cache(maxsize=64)
def _require(uri: str, options: tuple[tuple[str, str], ...]) -> None:
    location = Location(uri, dict(options))
    # A dataset that is copied takes its notes along: they say for which store they hold.
    where = [uri, *(location.storage_options.get(name, "") for name in _WHERE)]
    note = f"{hashlib.sha256('|'.join(where).encode()).hexdigest()[:32]}.lance"
    notes = StagedFiles(location, FOLDER)
    try:
        if note in notes.names():
            return
        is_safe = patiently(lambda: _refuses_a_second(location), is_of_the_store)
        if is_safe:
            notes.mark(note)
    except (OSError, ValueError) as error:
        raise CommitError(
            f"{uri} cannot be written: {first_line(error)}; look at the address and the options"
        ) from error
    if not is_safe:
        raise CommitError(
            f"the store of {uri} writes over an object where it is told not to (it ignores If-None-Match), "
            "so commits that race would be lost; use another store, or s3+ddb:// with its commit lock"
        )


def _refuses_a_second(location: Location) -> bool:
    """Let Lance commit a version that is there already, of a dataset that is made for it.

    Versions 1 to 3 are made, and version 2 is put where version 4 would be. Lance then takes 2 for the
    latest version, and the next commit for version 3.
    """
    import lance
    from lance.commit import CommitConflictError
    from lance.file import LanceFileSession

    place = f"{location.uri}/{ROOT}/probe-{uuid.uuid4().hex}"
    options = dict(location.storage_options)
    session = LanceFileSession(place, storage_options=options)
    try:
        dataset = lance.write_dataset(
            pa.table({"nothing": pa.array([], pa.int8())}), place, storage_options=options
        )
        for number in ("2", "3"):
            dataset.update_config({"version": number})
        with tempfile.TemporaryDirectory(prefix="laketag-") as folder:
            copy = str(Path(folder, "manifest"))
            session.download_file(_manifest(2), copy)
            session.upload_file(copy, _manifest(4))
        second = lance.Transaction(2, lance.LanceOperation.Append([]))
        lance.LanceDataset.commit(place, second, storage_options=options, max_retries=0)
    except CommitConflictError:
        return True
    finally:
        for name in session.list():
            session.delete_file(name)
    return False


def _manifest(version: int) -> str:
    return f"_versions/{2**64 - 1 - version:020d}.manifest"
