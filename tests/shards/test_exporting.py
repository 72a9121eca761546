"""Which rows an export puts into which shards, and where it goes on, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import exports
import laketag
from exports import export, imported, keys_by_shard, read, tars
from here import Here, import_
from laketag import ExportSettings, Local
from laketag.engines.protocol import Engine
from laketag.errors import (
    BadSQL,
    ColumnError,
    DatasetNotFound,
    Interrupted,
    JobRefused,
    LinkBroken,
    ShardError,
    ShardRefused,
    WrongUsage,
)
from tars import sample, write_tar

pytestmark = exports.READ_BY_WEBDATASET


@pytest.mark.slow
def test_equal_rows_make_equal_bytes_whatever_the_workers(tmp_path, tagged):

    export(tagged, tmp_path / "one", samples_per_shard=4)
    laketag.export(
        tagged, str(tmp_path / "two"), settings=ExportSettings(samples_per_shard=4), engine=Local(2)
    )

    assert len(tars(tmp_path / "one")) == 7
    assert [t.read_bytes() for t in tars(tmp_path / "one")] == [
        t.read_bytes() for t in tars(tmp_path / "two")
    ]


@pytest.mark.slow
def test_where_columns_and_version_choose_what_is_exported(tmp_path, tagged):

    export(tagged, tmp_path / "out", where="n >= 20 and SCORE is not null", columns=("jpg", "n", "SHA"))
    report = export(tagged, tmp_path / "before", at=1, images=False)

    samples = read(tmp_path / "out")
    assert [json.loads(each["json"])["n"] for each in samples] == [20, 21, 22, 23, 24]
    assert all(each.keys() == {"__key__", "jpg", "json"} for each in samples)
    assert json.loads(samples[0]["json"]).keys() == {"n", "SHA"}
    assert report.version == 1
    early = read(tmp_path / "before")[0]
    assert early.keys() == {"__key__", "txt", "json"}
    assert json.loads(early["json"]) == {"n": 0, "big": 1 << 70}


def test_a_shard_is_no_larger_than_asked_for_but_for_a_sample_that_is(tmp_path):
    sizes = [3000, 9000, 100, 60_000, 10, 10, 4000, 25_000, 1]
    uri = imported(tmp_path, *(sample(f"{n}", bin=bytes(size)) for n, size in enumerate(sizes)))

    report = export(uri, tmp_path / "out", bytes_per_shard=40_960)

    assert [each["bin"] for each in read(tmp_path / "out")] == [bytes(size) for size in sizes]
    shards = [len(set(keys)) for keys in keys_by_shard(tmp_path / "out")]
    assert shards == [3, 1, 5]
    assert [tar.stat().st_size > 40_960 for tar in tars(tmp_path / "out")] == [False, True, False]
    assert report.shards == 3


def test_what_ends_a_tar_is_part_of_its_size(tmp_path):
    # Tars are whole records of 10,240 bytes, and end with 1,024 of nothing. A sample here has 1,536.
    uri = imported(tmp_path, *(sample(f"{n:02d}", bin=b"") for n in range(39)))

    sizes = {}
    for asked in (30_300, 30_720):
        export(uri, tmp_path / str(asked), bytes_per_shard=asked)
        sizes[asked] = [tar.stat().st_size for tar in tars(tmp_path / str(asked))]

    assert sizes[30_300] == [20_480, 20_480, 20_480, 10_240]
    assert sizes[30_720] == [30_720, 30_720, 10_240]


def test_a_finished_shard_is_not_written_again(tmp_path, tagged):
    first = export(tagged, tmp_path / "out", samples_per_shard=5)
    written = {tar.name: tar.stat().st_mtime_ns for tar in tars(tmp_path / "out")}
    (tmp_path / "out" / "000002.tar").unlink()

    second = export(tagged, tmp_path / "out", samples_per_shard=5)

    after = {tar.name: tar.stat().st_mtime_ns for tar in tars(tmp_path / "out")}
    assert (first.shards_written, second.shards_written) == (5, 1)
    assert {name for name in after if after[name] != written[name]} == {"000002.tar"}
    assert (second.shards, second.samples, second.bytes) == (5, 25, first.bytes)


def test_an_export_that_broke_off_goes_on_with_the_version_that_it_began_with(tmp_path, tagged):
    broken_off(tagged, tmp_path / "out")
    assert len(tars(tmp_path / "out")) == 2
    laketag.add_column(tagged, "LATER", "n + 1")

    report = export(tagged, tmp_path / "out", samples_per_shard=5)

    assert (report.version, report.shards, report.shards_written) == (2, 5, 3)
    assert [each["__key__"] for each in read(tmp_path / "out")] == [f"photos/{n:03d}" for n in range(25)]
    assert not any("LATER" in json.loads(each["json"]) for each in read(tmp_path / "out"))


def test_tars_and_tables_in_one_folder_do_not_know_of_each_other(tmp_path, tagged):
    broken_off(tagged, tmp_path / "out")

    tables = export(tagged, tmp_path / "out", "{000000..}.parquet", samples_per_shard=5)
    report = export(tagged, tmp_path / "out", samples_per_shard=5)
    again = export(tagged, tmp_path / "out", "{000000..}.parquet", samples_per_shard=5)

    assert (tables.shards_written, report.shards_written, again.shards_written) == (5, 3, 0)
    assert (tables.shards, report.shards) == (5, 5)


def broken_off(uri: str, out: Path) -> None:
    """Export two of five shards."""
    settings, engine = ExportSettings(samples_per_shard=5), StopsAfter(2)
    with pytest.raises(RuntimeError, match="lights out"):
        laketag.export(uri, str(out), settings=settings, engine=engine)


class StopsAfter(Here):
    """Gives up after some tasks."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def run(self, fn, tasks, tell=None):
        for number, task in enumerate(tasks):
            if number == self.tasks:
                raise RuntimeError("lights out")
            yield fn(task)


def test_what_a_killed_writer_left_is_swept_and_never_read(tmp_path, tagged):
    out = tmp_path / "out"
    out.mkdir()
    left = out / ".000001.tar.0123.part"
    left.write_bytes(b"half a shard")

    export(tagged, out, samples_per_shard=10)

    assert not left.exists()
    assert {each.name for each in out.iterdir() if each.is_file()} == {
        *("000000.tar", "000001.tar", "000002.tar", "shardindex.json")
    }


def test_a_folder_with_shards_of_others_is_refused(tmp_path, tagged):
    write_tar(tmp_path / "out" / "000099.tar", sample("a"))

    with pytest.raises(JobRefused, match=r"000099\.tar is there already"):
        export(tagged, tmp_path / "out")


def test_another_export_into_the_same_folder_is_refused(tmp_path, tagged):
    export(tagged, tmp_path / "out")

    with pytest.raises(JobRefused, match="another export, of version 2"):
        export(tagged, tmp_path / "out", where="n < 5")


def test_a_finished_export_of_an_older_version_is_not_taken_for_the_new_one(tmp_path, tagged):
    export(tagged, tmp_path / "out")
    laketag.add_column(tagged, "LATER", "n + 1")

    with pytest.raises(JobRefused, match=r"finished export of version 2.* version 3"):
        export(tagged, tmp_path / "out")
    assert export(tagged, tmp_path / "out", at=2).shards_written == 0


def test_two_splits_share_a_folder_by_their_prefixes(tmp_path, tagged):

    export(tagged, tmp_path / "out", "train-%04d.tar", where="n % 5 <> 0", samples_per_shard=10)
    export(tagged, tmp_path / "out", "val-{0001..}.tar", where="n % 5 = 0", samples_per_shard=10)

    assert [tar.name for tar in tars(tmp_path / "out")] == [
        "train-0000.tar",
        "train-0001.tar",
        "val-0001.tar",
    ]
    index = json.loads((tmp_path / "out" / "val-shardindex.json").read_text())
    assert [(each["url"], each["nsamples"]) for each in index["shardlist"]] == [("val-0001.tar", 5)]


@pytest.mark.slow
def test_every_engine_writes_the_same_shards(tmp_path, tagged, engine: Engine):
    settings = ExportSettings(where="n <> 3", samples_per_shard=5, bytes_per_shard=30_000)
    here = export(tagged, tmp_path / "here", where="n <> 3", samples_per_shard=5, bytes_per_shard=30_000)

    there = laketag.export(tagged, str(tmp_path / "there"), settings=settings, engine=engine)

    assert (there.shards, there.samples, there.bytes) == (here.shards, 24, here.bytes)
    assert [t.read_bytes() for t in tars(tmp_path / "there")] == [
        t.read_bytes() for t in tars(tmp_path / "here")
    ]


def test_a_worker_that_sees_another_folder_of_the_same_path_writes_nothing(tmp_path, tagged):
    out = tmp_path / "out"

    with pytest.raises(ShardError, match="is not shared with"):
        laketag.export(tagged, str(out), engine=ElsewhereWith(out))
    assert tars(out) == []


class ElsewhereWith(Here):
    """Runs tasks where the folder is another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, fn, tasks, tell=None):
        self.folder.rename(self.folder.with_name("elsewhere"))
        yield from super().run(fn, tasks, tell)


class Meanwhile(Here):
    """Does something else before its first task."""

    def __init__(self, something: Callable[[], Any]) -> None:
        self.something = something

    def run(self, fn, tasks, tell=None):
        self.something()
        yield from super().run(fn, tasks, tell)


def test_another_export_into_the_same_shards_waits_until_the_first_is_done(tmp_path, tagged):
    def other() -> None:
        with pytest.raises(JobRefused, match=r"an export to .*out/{000000\.\.}\.tar is at work: process"):
            export(tagged, tmp_path / "out", where="n < 5")

    report = laketag.export(tagged, str(tmp_path / "out"), engine=Meanwhile(other))

    assert report.samples == len(read(tmp_path / "out")) == 25
    assert {each.name for each in (tmp_path / "out" / ".laketag-export").rglob("*") if each.is_file()} == {
        "job.json"
    }


def test_a_worker_that_outlives_its_export_puts_nothing_among_the_shards_of_the_next(tmp_path, tagged):
    out = tmp_path / "out"
    kept: list[tuple[Any, Any]] = []

    class Dies(Here):
        def run(self, fn, tasks, tell=None):
            kept.extend((fn, task) for task in tasks)
            raise KeyboardInterrupt
            yield

    def begin(samples: int) -> None:
        with pytest.raises(Interrupted):
            laketag.export(
                tagged, str(out), settings=ExportSettings(samples_per_shard=samples), engine=Dies()
            )

    begin(25)
    write, task = kept[0]

    class ReadLate(type(task.chosen)):
        def open(self):
            begin(20)
            return super().open()

    with pytest.raises(ShardError, match="another export's by now"):
        write(replace(task, chosen=ReadLate(**vars(task.chosen))))
    assert export(tagged, out, samples_per_shard=20).shards_written == 2
    assert [len(set(keys)) for keys in keys_by_shard(out)] == [20, 5]


def test_rows_that_point_into_tars_give_their_bytes_and_a_changed_tar_is_refused(tmp_path):
    shard = write_tar(tmp_path / "in.tar", *(sample(f"{n}", {"n": n}) for n in range(9)))
    uri = str(tmp_path / "dataset")
    import_([str(shard)], uri, settings=laketag.ImportSettings(link=True))
    export(uri, tmp_path / "out", samples_per_shard=5)

    pictures = [each["jpg"] for each in read(tmp_path / "out")]
    write_tar(tmp_path / "in.tar", sample("other"))

    assert pictures == [b"picture of %d" % n for n in range(9)]
    with pytest.raises(LinkBroken):
        export(uri, tmp_path / "again")


def test_nothing_selected_makes_no_shard(tmp_path, tagged):

    report = export(tagged, tmp_path / "out", where="n < 0")

    assert (report.shards, report.samples, report.bytes) == (0, 0, 0)
    assert json.loads((tmp_path / "out" / "shardindex.json").read_text())["shardlist"] == []


@pytest.mark.parametrize("pattern", ["out/x.tar", "out/{000..127}.tar", "out/{000..}.tar.gz", "out/%s.tar"])
def test_a_pattern_that_names_no_shards_is_refused(tagged, pattern):
    with pytest.raises(ShardRefused, match="does not name shards"):
        laketag.export(tagged, pattern)


def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(tmp_path, tagged):
    out = tmp_path / "out"

    with pytest.raises(ColumnError, match="SCOR"):
        export(tagged, out, columns=("SCOR",))
    with pytest.raises(BadSQL, match="nothing"):
        export(tagged, out, where="nothing > 1")
    with pytest.raises(DatasetNotFound):
        export(str(tmp_path / "none"), out)
    with pytest.raises(WrongUsage, match="0 samples per shard"):
        export(tagged, out, samples_per_shard=0)
    assert not out.exists()
