"""Imports that are repeated, broken off, or at work at the same time; shards that came again, or later."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import lance
import pytest

from here import Here
from imports import APPEND, rows, run, staged
from laketag.errors import CommitError, JobRefused
from laketag.lake import adding
from laketag.lake.adding import IMPORTING
from laketag.lake.lease import leased
from laketag.lake.links import require_links
from laketag.lake.location import Location
from laketag.lake.transactions import JOB_KEY
from laketag.shards import plan
from laketag.shards.imported import Imported, announce
from laketag.shards.importing import ImportSettings, import_
from laketag.shards.ledger import Ledger
from laketag.shards.sources import find_shards
from tars import sample, write_tar


def test_the_same_command_again_imports_nothing(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("x"), sample("y"), ended=False)
    first = run(uri, shard)

    again = run(uri, shard)

    assert (again.version, again.rows, again.rows_added, again.bytes_read) == (1, 2, 0, 0)
    assert (first.complete, again.complete) == (False, False)
    assert again.lost == first.lost != ()


def test_rows_that_a_user_deleted_stay_deleted(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("x"), sample("y"))
    run(uri, shard)
    lance.dataset(uri).delete("__key__ = 'x'")

    assert run(uri, shard).rows_added == 0


def test_a_restored_dataset_gets_its_shards_back(tmp_path, uri):
    one, two = (write_tar(tmp_path / f"{n}.tar", sample(n)) for n in "ab")
    run(uri, one)
    run(uri, two, settings=APPEND)
    lance.dataset(uri, version=1).restore()

    run(uri, one, two)

    assert [row["__key__"] for row in rows(uri)] == ["a", "b"]


def test_samples_that_a_restore_took_back_are_added_again(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", *(sample(f"{i}") for i in range(4)))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:3000])
    run(uri, shard)
    shard.write_bytes(whole)
    run(uri, shard)
    lance.dataset(uri, version=1).restore()

    again = run(uri, shard)

    assert again.complete
    assert [row["__key__"] for row in rows(uri)] == ["0", "1", "2", "3"]


def test_new_shards_need_append(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))

    with pytest.raises(JobRefused, match="--append"):
        run(uri, tmp_path / "a.tar", write_tar(tmp_path / "b.tar", sample("b")))
    assert lance.dataset(uri).version == 1


def test_stable_row_ids_and_versions_go_on_after_an_append(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))
    run(uri, write_tar(tmp_path / "b.tar", sample("b")), settings=APPEND)

    found = lance.dataset(uri).to_table(columns=["_rowid", "_row_created_at_version"]).to_pydict()

    assert found == {"_rowid": [0, 1], "_row_created_at_version": [1, 2]}


def test_a_truncated_shard_delivered_again_adds_only_what_is_missing(tmp_path, uri):
    samples = [sample(f"{i}", {"i": i}) for i in range(6)]
    shard = write_tar(tmp_path / "a.tar", *samples)
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    first = run(uri, shard)
    shard.write_bytes(whole)

    second = run(uri, shard)

    assert not first.complete
    assert 0 < first.rows < 6
    assert (second.complete, second.rows, second.rows_added) == (True, 6, 6 - first.rows)
    assert sorted(row["__key__"] for row in rows(uri)) == [f"{i}" for i in range(6)]
    assert run(uri, shard).version == second.version


@pytest.mark.parametrize("end", [2 * 3072 + 2000, 2 * 3072 + 1024], ids=["in a body", "between members"])
def test_a_sample_that_was_cut_off_comes_whole_with_the_whole_shard(tmp_path, uri, end):
    # A sample takes 3,072 bytes, the first 1,024 for its class.
    samples = [[(f"{i}.cls", b"%d" % i), (f"{i}.jpg", bytes([i]) * 1500)] for i in range(3)]
    shard = write_tar(tmp_path / "a.tar", *samples)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:end])
    first = run(uri, shard)
    shard.write_bytes(whole)

    second = run(uri, shard)

    assert [(row["cls"], row["jpg"]) for row in rows(uri)] == [(i, bytes([i]) * 1500) for i in range(3)]
    assert [row["member"] for row in first.skipped] == ["2"]
    assert (first.complete, second.complete) == (False, True)


def test_a_redelivery_broken_off_before_its_commit_is_not_taken_for_done(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", *(sample(f"{i}") for i in range(4)))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:3000])
    run(uri, shard)
    shard.write_bytes(whole)
    [found] = find_shards([str(shard)])
    note = Imported.of(found, "import-job", Ledger(found.url, rows=2, samples=4))
    announce(Location.of(uri), "job", 1, [note])

    assert run(uri, shard).rows == 4


def test_a_shard_touched_but_not_changed_adds_nothing(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    run(uri, shard)
    os.utime(shard, (1, 1))

    assert (run(uri, shard).version, run(uri, shard).bytes_read) == (1, 0)


def test_a_note_on_a_commit_does_not_hide_a_later_one_on_the_same_version(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    run(uri, shard)
    # As if the import had ended between its commit and its note.
    [found] = find_shards([str(shard)])
    job = lance.dataset(uri).read_transaction(1).transaction_properties[JOB_KEY]
    announce(Location.of(uri), job, 0, [Imported.of(found, "import-job", Ledger(found.url, 1, 1))])
    os.utime(shard, (1, 1))

    assert [run(uri, shard).bytes_read > 0 for _ in range(2)] == [True, False]


class Stopped(Exception):
    """What the program is stopped by, at a moment of the test's choice."""


@pytest.mark.parametrize("moment", range(8))
def test_an_import_stopped_at_any_step_goes_on_where_it_was(tmp_path, uri, monkeypatch, moment):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    # The last one's type makes it necessary to write the typed columns again, which is a step of its own.
    shards = [write_tar(tmp_path / f"{n}.tar", sample(f"{n}", {"i": i})) for n, i in enumerate([0, 1, 2.5])]
    told = []

    def stop(progress):
        told.append(progress)
        if len(told) > moment:
            raise Stopped

    try:
        run(uri, *shards, settings=ImportSettings(progress=stop))
    except Stopped:
        assert Path(uri, "_versions").exists() == (told[-1].note == "committed")
    report = run(uri, *shards)

    assert [row["i"] for row in rows(uri)] == [0, 1, 2.5]
    assert report.bytes_read == max(0, 3 - moment) * shards[0].stat().st_size
    assert staged(uri) == []


def test_two_imports_at_once_make_one_dataset(tmp_path, uri):
    shard, other = (write_tar(tmp_path / f"{n}.tar", sample(n, {"n": 1})) for n in "ab")

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            if not Path(uri, "_versions").exists():
                run(uri, shard, other)

    with pytest.raises(CommitError, match="run the same command again"):
        import_([str(shard)], uri, engine=Overtaken())

    assert run(uri, shard).rows == 2
    assert len(rows(uri)) == 2


def test_the_same_import_is_not_at_work_twice_at_once(tmp_path, uri, monkeypatch):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    shards = [write_tar(tmp_path / f"{n}.tar", sample(n)) for n in "ab"]

    class Followed(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            with pytest.raises(JobRefused, match="this import is at work: process"):
                run(uri, *shards)

    import_([str(shard) for shard in shards], uri, engine=Followed())

    assert [row["__key__"] for row in rows(uri)] == ["a", "b"]


def test_many_that_find_all_imported_do_not_exclude_each_other(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    run(uri, shard)

    with leased(Location.of(uri), IMPORTING, "any import"):
        assert run(uri, shard).rows_added == 0


def test_two_appends_at_once_add_a_shard_once(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))
    shard, other = (write_tar(tmp_path / f"{n}.tar", sample(n, {"n": 1})) for n in "bc")

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            if lance.dataset(uri).version == 1:
                run(uri, shard, other, settings=APPEND)

    with pytest.raises(CommitError, match="run the same command again"):
        import_([str(shard)], uri, settings=APPEND, engine=Overtaken())

    assert run(uri, shard).rows_added == 0
    assert [row["__key__"] for row in rows(uri)] == ["a", "b", "c"]


def test_an_import_that_waits_to_commit_says_so(tmp_path, uri, monkeypatch):
    monkeypatch.setattr(adding, "_QUEUES", 5.0)
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))
    told = []
    with ExitStack() as other:
        other.enter_context(leased(Location.of(uri), IMPORTING, "another import", "commit"))

        def hear(progress):
            told.append(progress.note)
            if progress.note == "waiting for others to commit":
                other.close()

        settings = ImportSettings(append=True, progress=hear)
        run(uri, write_tar(tmp_path / "b.tar", sample("b")), settings=settings)

    assert told[-2:] == ["waiting for others to commit", "committed"]


def test_of_a_tar_whose_import_is_refused_no_note_holds(tmp_path, uri):
    linked = ImportSettings(link=True, append=True)
    run(uri, write_tar(tmp_path / "a.tar", sample("a")), settings=linked)
    shard = write_tar(tmp_path / "b.tar", sample("b"))

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            if lance.dataset(uri).version == 1:
                write_tar(shard, sample("b"), *(sample(f"more{n}") for n in range(9)))
                run(uri, shard, settings=linked)

    with pytest.raises(CommitError, match="run the same command again"):
        import_([str(shard)], uri, settings=linked, engine=Overtaken())

    assert require_links(Location.of(uri)) == 2


def test_an_import_that_begins_and_ends_beside_another_one_does_not_disturb_it(tmp_path, uri):
    one, two, three = (write_tar(tmp_path / f"{n}.tar", sample(n)) for n in "abc")
    run(uri, one)

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            run(uri, three, settings=APPEND)
            yield from super().run(fn, tasks)

    report = import_([str(two)], uri, settings=APPEND, engine=Overtaken())

    assert [row["__key__"] for row in rows(uri)] == ["a", "c", "b"]
    assert (report.rows_added, report.rows) == (1, 3)
