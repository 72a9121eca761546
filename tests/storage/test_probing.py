"""A store that ignores put-if-absent is refused before the first commit; others are asked once."""

from __future__ import annotations

import json

import lance
import pyarrow as pa
import pytest

import laketag
from laketag.errors import CommitError
from laketag.lake import probing
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from programs import run
from servers import Store, flags
from tars import sample, write_tar

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def forgotten() -> None:
    probing._require.cache_clear()


def test_a_store_that_ignores_put_if_absent_is_refused_before_anything_is_read(tmp_path, unsafe_store, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))

    done = run("import", shard, uri, *flags("-o", unsafe_store.options))

    assert done.returncode == 1
    assert "ignores If-None-Match" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    left = StagedFiles(Location.of(uri, unsafe_store.options), "").all_names()
    assert left == []


def test_no_command_commits_to_such_a_store(unsafe_store, uri):
    options = unsafe_store.options
    lance.write_dataset(pa.table({"jpg": [b"x"], "n": [1]}), uri, storage_options=options)

    for change in (
        lambda: laketag.tag(uri, ["quality"], storage_options=options),
        lambda: laketag.add_column(uri, "m", "n + 1", storage_options=options),
        lambda: laketag.drop_column(uri, "n", storage_options=options),
        lambda: laketag.index(uri, "n", storage_options=options),
    ):
        with pytest.raises(CommitError, match="ignores If-None-Match"):
            change()
    assert lance.dataset(uri, storage_options=options).version == 1
    assert laketag.show(uri, storage_options=options).rows == 1


def test_a_store_that_honours_it_is_asked_once(tmp_path, store: Store, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    location = Location.of(uri, store.options)
    laketag.import_([str(shard)], uri, storage_options=store.options)
    noted = StagedFiles(location, probing.FOLDER).names()
    probing._require.cache_clear()

    probing.require_put_if_absent(location)

    assert len(noted) == 1
    assert StagedFiles(location, probing.FOLDER).names() == noted
    assert not [name for name in StagedFiles(location, "").all_names() if name.startswith("probe-")]


def test_a_note_holds_for_its_store_only(tmp_path, store, unsafe_store, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    laketag.import_([str(shard)], uri, storage_options=store.options)
    [note] = StagedFiles(Location.of(uri, store.options), probing.FOLDER).names()
    there = Location.of(uri, unsafe_store.options)
    StagedFiles(there, probing.FOLDER).write(note, pa.table({"safe": [True]}))

    with pytest.raises(CommitError, match="ignores If-None-Match"):
        probing.require_put_if_absent(there)


def test_clean_leaves_the_note(tmp_path, store, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    laketag.import_([str(shard)], uri, storage_options=store.options)

    done = run("clean", uri, "--older-than", "0", "--yes", "--json", *flags("-o", store.options))

    assert json.loads(done.stdout)["staged"] == []
    assert len(StagedFiles(Location.of(uri, store.options), probing.FOLDER).names()) == 1
