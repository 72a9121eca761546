"""What an import makes of shards, whole and damaged ones, and what it says of them."""

from __future__ import annotations

import bz2
import json
import lzma
import os
from pathlib import Path

import lance
import pyarrow as pa
import pytest

from here import Here
from imports import APPEND, PLAIN, rows, run
from laketag.engines.protocol import Engine, Progress, Workers
from laketag.errors import JobRefused, ShardError, WrongUsage
from laketag.lake.location import Location
from laketag.shards import plan
from laketag.shards.exporting import ExportSettings, export
from laketag.shards.importing import ImportSettings, import_
from laketag.shards.sources import find_shards
from tars import END, header, padded, sample, tar_bytes, write_tar


def test_a_list_of_shards_may_be_a_pipe(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a"))
    reading, writing = os.pipe()
    os.write(writing, f"{shard}\n".encode())
    os.close(writing)

    report = run(uri, f"@/dev/fd/{reading}")
    os.close(reading)

    assert report.rows == 1


def test_an_empty_first_shard_is_named_and_the_others_are_read(tmp_path, uri):
    empty = tmp_path / "a.tar"
    empty.write_bytes(b"")
    whole = write_tar(tmp_path / "b.tar", sample("x", {"width": 1}))

    report = run(uri, empty, whole)

    assert [row["__key__"] for row in rows(uri)] == ["x"]
    assert "the file is empty" in json.dumps(report.to_json())


def test_small_shards_share_a_fragment_and_large_ones_are_split(tmp_path, uri):
    shards = [write_tar(tmp_path / f"{i}.tar", sample(f"{i}a"), sample(f"{i}b")) for i in range(5)]

    run(uri, *shards, settings=ImportSettings(rows_per_fragment=4))

    assert [fragment.count_rows() for fragment in lance.dataset(uri).get_fragments()] == [4, 4, 2]


@pytest.mark.parametrize(
    ("count", "megabytes", "tasks"), [(3, 10, 1), (16, 10, 6), (10, 100, 10), (100, 100, 50), (2, 900, 2)]
)
def test_work_is_divided_so_that_several_workers_have_some_and_fragments_stay_few(
    tmp_path, uri, count, megabytes, tasks
):
    for number in range(count):
        with open(tmp_path / f"{number:03}.tar", "wb") as file:
            file.truncate(megabytes << 20)

    job = plan.plan(find_shards([str(tmp_path)]), Location.of(uri), PLAIN)

    assert len(job.tasks()) == tasks
    assert [shard for task in job.tasks() for shard in task.shards] == list(job.shards)


def test_a_key_in_two_shards_makes_two_rows_and_is_counted(tmp_path, uri):
    one, two = (write_tar(tmp_path / f"{n}.tar", sample("same"), sample(n)) for n in "ab")

    report = run(uri, one, two)

    assert [row["__key__"] for row in rows(uri)] == ["same", "a", "same", "b"]
    assert [(row["shard"], row["member"]) for row in report.skipped] == [(str(two), "same")]
    assert report.complete


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_members_that_are_apart_become_one_row(tmp_path, uri, name):
    shard = write_tar(
        tmp_path / name,
        [(f"{i}.jpg", b"J%d" % i) for i in range(5)],
        [(f"{i}.txt", b"T%d" % i) for i in range(5)],
    )

    report = run(uri, shard)

    assert [(row["jpg"], row["txt"]) for row in rows(uri)] == [(b"J%d" % i, f"T{i}") for i in range(5)]
    assert len(report.skipped) == 5
    assert len(list(Path(uri, "data").iterdir())) == 2


def test_a_damaged_shard_keeps_every_other_sample(tmp_path, uri):
    content = bytearray(tar_bytes([m for i in range(4) for m in sample(f"{i}")]))
    content[1024] ^= 0xFF
    (tmp_path / "a.tar").write_bytes(content)

    report = run(uri, tmp_path / "a.tar")

    assert [row["__key__"] for row in rows(uri)] == ["0", "2", "3"]
    assert report.lost[0]["shard"] == str(tmp_path / "a.tar")
    assert report.lost[0]["offset"] == 1024
    assert not report.complete


def test_shards_without_a_sample_make_no_dataset_and_say_so(tmp_path, uri):
    (tmp_path / "a.tar").write_bytes(b"not a tar at all")
    (tmp_path / "b.tar").write_bytes(header(b"README", 2) + padded(b"hi") + END)

    report = run(uri, tmp_path / "a.tar", tmp_path / "b.tar")

    assert (report.version, report.rows, report.complete) == (None, 0, False)
    assert [row["member"] for row in report.skipped] == ["README"]
    assert not Path(uri, "_versions").exists()


@pytest.mark.parametrize("packer", [bz2, lzma])
def test_a_shard_that_is_packed_otherwise_than_by_gzip_says_so(tmp_path, uri, packer):
    shard = tmp_path / "a.tar"
    shard.write_bytes(packer.compress(tar_bytes([("a.jpg", os.urandom(5000))])))

    report = run(uri, shard)

    assert (report.complete, report.samples) == (False, 0)
    assert "which is not read: unpack it, or pack it with gzip" in report.lost[0]["reason"]


def test_a_folder_of_shards_is_no_place_for_a_dataset(tmp_path):
    first, second = (write_tar(tmp_path / each / f"{each}.tar", sample(each)) for each in "ab")

    with pytest.raises(WrongUsage, match=r"is a folder of shards \(b\.tar\).*after the shards"):
        run(str(second.parent), first)
    assert [each.name for each in second.parent.iterdir()] == ["b.tar"]


def test_a_dry_run_reports_and_writes_nothing(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", sample("a", {"n": 1}), ended=False)

    report = run(uri, shard, settings=ImportSettings(dry_run=True))

    assert (report.rows, report.samples, report.complete, report.bytes_written) == (1, 1, False, 0)
    assert {"name": "n", "type": "int64"} in report.columns
    assert not Path(uri).exists()


def test_blobs_in_files_of_their_own_are_counted_as_written(tmp_path, uri):
    image = os.urandom(200_000)
    shard = write_tar(tmp_path / "a.tar", sample("x", png=image))

    report = run(uri, shard, settings=ImportSettings(image_encoding="blob"))

    there = sum(file.stat().st_size for file in Path(uri, "data").rglob("*") if file.is_file())
    assert there > len(image)
    assert report.bytes_written >= there


class Awaiting:
    """An engine whose workers are awaited for a while."""

    def run(self, fn, tasks, tell):
        tell(Workers(awaited=2))
        yield from Here().run(fn, tasks, tell)


def test_who_waits_for_workers_is_told_so(tmp_path, uri):
    told: list[Progress] = []
    engine: Engine = Awaiting()
    shard = write_tar(tmp_path / "a.tar", sample("x"))

    import_([str(shard)], uri, settings=ImportSettings(progress=told.append), engine=engine)
    export(uri, str(tmp_path / "out"), settings=ExportSettings(progress=told.append), engine=engine)

    awaited = {(each.note, each.done) for each in told if each.detail == "0 workers, 2 awaited"}
    assert awaited >= {("reading shards", 0), ("writing shards", 0)}


def test_a_foreign_dataset_is_refused(tmp_path, uri):
    lance.write_dataset(pa.table({"a": [1]}), uri)

    with pytest.raises(JobRefused, match="__key__"):
        run(uri, write_tar(tmp_path / "a.tar", sample("a")), settings=APPEND)


def test_a_shard_that_changes_while_it_is_read_is_refused(tmp_path, uri):
    one, two = (write_tar(tmp_path / f"{n}.tar", sample(n)) for n in "ab")

    class Changing(Here):
        def run(self, fn, tasks, tell=None):
            write_tar(two, sample("changed"), sample("more"))
            yield from super().run(fn, tasks)

    with pytest.raises(ShardError, match="changed"):
        import_([str(one), str(two)], uri, engine=Changing())
    assert list(Path(uri).rglob("data/*.lance")) == []


@pytest.mark.parametrize("settings", [{"image_encoding": "jpeg"}, {"rows_per_fragment": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(WrongUsage):
        ImportSettings(**settings)
