from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pytest

from here import Here
from laketag.engines.protocol import Engine, Progress, Workers, unheard
from laketag.errors import CommitError, JobRefused, ShardError, ShardRefused, WrongUsage
from laketag.lake.location import Location
from laketag.shards import fragments, plan
from laketag.shards.exporting import ExportSettings, export
from laketag.shards.imported import Imported, announce
from laketag.shards.importing import ImportReport, ImportSettings, import_
from laketag.shards.ledger import Ledger
from laketag.shards.sources import find_shards
from tars import END, header, padded, sample, tar_bytes, write_tar

APPEND = ImportSettings(append=True)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "dataset")


PLAIN = ImportSettings()


def run(uri: str, *shards: Path | str, settings: ImportSettings = PLAIN) -> ImportReport:
    return import_([str(shard) for shard in shards], uri, settings=settings, engine=Here())


def rows(uri: str) -> list[dict]:
    dataset = lance.dataset(uri)
    dataset.validate()
    return dataset.to_table().to_pylist()


def staged(uri: str) -> list[str]:
    return [f.name for f in Path(uri, "_laketag").rglob("*.lance") if f.parent.name != "imported"]


def test_an_empty_first_shard_is_named_and_the_others_are_read(tmp_path, uri):
    empty = tmp_path / "a.tar"
    empty.write_bytes(b"")
    whole = write_tar(tmp_path / "b.tar", sample("x", {"width": 1}))

    report = run(uri, empty, whole)

    assert [row["__key__"] for row in rows(uri)] == ["x"]
    assert "the file is empty" in json.dumps(report.to_json())


def test_a_shard_becomes_version_1_of_an_ordinary_dataset(tmp_path, uri):
    shard = write_tar(
        tmp_path / "a.tar",
        sample("x", {"caption": "one", "width": 3, "exif": {"Make": "Z"}}, txt=b"hello", cls=b"7\n"),
        sample("y", {"caption": "two", "width": 2.5}, txt="é".encode(), cls=b"-1"),
    )

    report = run(uri, shard)

    assert rows(uri) == [
        {
            "__key__": "x",
            "__url__": str(shard),
            "__offset__": 0,
            "jpg": b"picture of x",
            "txt": "hello",
            "cls": 7,
            "json": '{"caption": "one", "width": 3, "exif": {"Make": "Z"}}',
            "caption": "one",
            "width": 3.0,
            "exif": {"Make": "Z"},
        },
        {
            "__key__": "y",
            "__url__": str(shard),
            "__offset__": 4096,
            "jpg": b"picture of y",
            "txt": "é",
            "cls": -1,
            "json": '{"caption": "two", "width": 2.5}',
            "caption": "two",
            "width": 2.5,
            "exif": None,
        },
    ]
    dataset = lance.dataset(uri)
    assert (dataset.version, dataset.data_storage_version, dataset.has_stable_row_ids) == (1, "2.2", True)
    assert (report.version, report.rows, report.rows_added, report.samples, report.shards) == (1, 2, 2, 2, 1)
    assert (report.complete, report.lost, report.skipped, report.schema_clashes) == (True, (), (), ())
    assert report.bytes_shards == report.bytes_read == shard.stat().st_size
    assert [column["name"] for column in report.columns] == dataset.schema.names
    assert json.dumps(report.to_json())
    assert staged(uri) == []


def test_plain_lance_and_duckdb_work_on_it(tmp_path, uri):
    run(
        uri,
        write_tar(tmp_path / "a.tar", *(sample(f"{i}", {"n": i}) for i in range(10))),
        settings=ImportSettings(rows_per_fragment=4),
    )

    @lance.batch_udf(output_schema=pa.schema([("length", pa.int64())]))
    def length(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pa.array([len(v) for v in batch["jpg"].to_pylist()])], names=["length"])

    dataset = lance.dataset(uri)
    merged = [fragment.merge_columns(length, columns=["jpg"]) for fragment in dataset.get_fragments()]
    operation = lance.LanceOperation.Merge([fragment for fragment, _ in merged], merged[0][1])
    dataset = lance.LanceDataset.commit(uri, operation, read_version=1)
    dataset.optimize.compact_files(target_rows_per_fragment=100)

    scan = lance.dataset(uri).scanner(columns=["__key__", "length", "n"]).to_reader()  # noqa: F841  # DuckDB reads it
    assert duckdb.sql("select sum(length), sum(n) from scan").fetchall() == [(120, 45)]
    assert lance.dataset(uri).count_rows("n > 6") == 3


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


def test_new_shards_need_append(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))

    with pytest.raises(JobRefused, match="--append"):
        run(uri, tmp_path / "a.tar", write_tar(tmp_path / "b.tar", sample("b")))
    assert lance.dataset(uri).version == 1


def test_appended_shards_bring_their_columns_and_keep_the_types_there(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a", {"n": 1, "s": "x", "f": 0.5}, cls=b"1", txt=b"t")))
    second = sample("b", {"n": "many", "s": 3, "f": 2, "new": {"q": True}}, cls=b"cat", txt=b"\xff", png=b"P")

    report = run(uri, write_tar(tmp_path / "b.tar", second), settings=APPEND)

    old, new = rows(uri)
    assert {
        k: new[k] for k in ("n", "n_json", "s", "f", "new", "cls", "cls_bytes", "txt", "txt_bytes", "png")
    } == {
        "n": None,
        "n_json": "many",
        "s": "3",
        "f": 2.0,
        "new": {"q": True},
        "png": b"P",
        "cls": None,
        "cls_bytes": b"cat",
        "txt": None,
        "txt_bytes": b"\xff",
    }
    assert (old["n"], old["n_json"], old["cls"], old["txt"], old["png"]) == (1, None, 1, "t", None)
    assert {clash["column"] for clash in report.schema_clashes} == {"n_json", "cls_bytes", "txt_bytes"}
    third = run(uri, write_tar(tmp_path / "c.tar", sample("c", {"n": [1]})), settings=APPEND)
    assert rows(uri)[2]["n_json"] == "[1]"
    assert third.rows == 3


def test_a_renamed_column_goes_on_being_filled(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a", {"caption": "A"})))
    lance.dataset(uri).alter_columns({"path": "caption", "name": "alt"})

    run(uri, write_tar(tmp_path / "b.tar", sample("b", {"caption": "B"})), settings=APPEND)

    assert [row["alt"] for row in rows(uri)] == ["A", "B"]
    assert "caption" not in lance.dataset(uri).schema.names


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


def test_the_schema_is_the_union_over_all_shards(tmp_path, uri, monkeypatch):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    shards = [
        write_tar(tmp_path / "0.tar", sample("a", {"n": 1, "only_null": None}, cls=b"1", txt=b"ok")),
        write_tar(tmp_path / "1.tar", sample("b", {"n": 2.5, "nested": {"a": 1}}, cls=b"x", txt=b"\xff")),
        write_tar(tmp_path / "2.tar.gz", sample("c", {"n": None, "nested": {"b": [1]}}, npy=b"N")),
    ]

    run(uri, *shards)

    schema = lance.dataset(uri).schema
    assert [str(schema.field(n).type) for n in ("n", "only_null", "cls", "txt", "npy")] == [
        *("double", "string", "string", "binary", "binary")
    ]
    assert [row["nested"] for row in rows(uri)] == [None, {"a": 1, "b": None}, {"a": None, "b": [1]}]
    assert [row["__url__"] for row in rows(uri)] == [str(shard) for shard in shards]
    assert len(lance.dataset(uri).get_fragments()) == 3


@dataclass
class Counting(Here):
    """The engine in the calling process, which notes what it was given to do."""

    done: list[str] = field(default_factory=list)

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = unheard) -> Iterator[Any]:
        self.done += [type(task).__name__ for task in tasks]
        yield from super().run(fn, tasks, tell)


def test_shards_that_agree_on_their_types_take_one_run_of_the_engine(tmp_path, uri, monkeypatch):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    shards = [
        write_tar(tmp_path / "0.tar", sample("a", {"n": 1, "s": "x", "only": None}, txt=b"t")),
        write_tar(tmp_path / "1.tar", sample("b", {"s": 2**60, "n": 2}, cls=b"3")),
        write_tar(tmp_path / "2.tar", sample("c", {"n": 3, "only": 2.5})),
    ]
    engine = Counting()

    import_([str(shard) for shard in shards[::2]], uri, engine=engine)
    assert engine.done == ["ImportTask"] * 2
    import_([str(shards[1])], uri, engine=engine, settings=APPEND)

    # A number where the dataset has strings becomes text, and only the worker of this shard saw it.
    assert engine.done == ["ImportTask"] * 3
    got = [[row[name] for name in ("n", "s", "only", "txt", "cls")] for row in rows(uri)]
    assert got == [[1, "x", None, "t", None], [3, None, 2.5, None, None], [2, str(2**60), None, None, 3]]


@pytest.mark.parametrize("part_bytes", [1, 1 << 20])
def test_what_later_samples_widen_is_written_again_and_leaves_nothing(tmp_path, uri, monkeypatch, part_bytes):
    monkeypatch.setattr(plan, "TASK_BYTES", 1)
    monkeypatch.setattr(fragments, "_PART_BYTES", part_bytes)
    values = [[{"n": 1, "k": "x"}, {"n": 2}], [{"n": 3}, {"n": 2.5}], [{"n": 4.5, "k": ["y"]}]]
    shards = [
        write_tar(tmp_path / f"{i}.tar", *(sample(f"{i}-{j}", one) for j, one in enumerate(each)))
        for i, each in enumerate(values)
    ]

    run(uri, *shards, settings=ImportSettings(rows_per_fragment=2))

    assert [(row["n"], row["k"]) for row in rows(uri)] == [
        *((1.0, "x"), (2.0, None), (3.0, None), (2.5, None), (4.5, '["y"]'))
    ]
    files = [file.path for each in lance.dataset(uri).get_fragments() for file in each.metadata.files]
    assert sorted(files) == sorted(path.name for path in Path(uri, "data").iterdir())


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


def test_columns_that_appear_late_lose_no_row(tmp_path, uri):
    members = [sample(f"{i}", **({"png": b"P"} if i > 1500 else {})) for i in range(2500)]

    run(uri, write_tar(tmp_path / "a.tar", *members))

    assert lance.dataset(uri).count_rows() == 2500
    assert lance.dataset(uri).count_rows("png is not null") == 999


def test_names_that_clash_get_a_suffix_and_are_reported(tmp_path, uri):
    keys = ["jpg", "json", "__key__", "_rowid", "Width", "width", "a.b", "", "tick`", "ok"]

    report = run(uri, write_tar(tmp_path / "a.tar", sample("a", dict.fromkeys(keys, 1))))

    [row] = rows(uri)
    clashes = {clash["name"]: clash["column"] for clash in report.schema_clashes}
    assert clashes == {
        "json:jpg": "jpg_json",
        "json:json": "json_json",
        "json:__key__": "__key___json",
        "json:_rowid": "_rowid_json",
        "json:width": "width_json",
        "json:a.b": "a_b_json",
        "json:": "_json",
        "json:tick`": "tick__json",
    }
    assert all(row[column] == 1 for column in clashes.values())
    assert (row["ok"], row["Width"], row["jpg"]) == (1, 1, b"picture of a")


@pytest.mark.parametrize("raw", [b"[1]", b"3", b"{", b'{"a": 1, "a": 2}', b"[" * 50_000])
def test_odd_json_keeps_its_row_and_its_text(tmp_path, uri, raw):
    report = run(uri, write_tar(tmp_path / "a.tar", sample("a", {"n": 1}), [("b.json", raw)]))

    assert rows(uri)[1]["json"] == raw.decode()
    assert rows(uri)[1]["n"] is None
    assert report.complete
    assert [row["member"] for row in report.skipped] == ([] if raw.startswith(b'{"a"') else ["b.json"])


def test_json_that_is_no_utf8_is_kept_as_bytes(tmp_path, uri):
    report = run(uri, write_tar(tmp_path / "a.tar", sample("a", {"n": 1}), [("b.json", b'{"n": "\xff"}')]))

    assert [(row["json"], row["json_bytes"]) for row in rows(uri)] == [
        ('{"n": 1}', None),
        (None, b'{"n": "\xff"}'),
    ]
    assert [clash["column"] for clash in report.schema_clashes] == ["json_bytes"]


def test_json_with_too_many_keys_gives_no_columns_and_loses_nothing(tmp_path, uri):
    wide = {f"k{i}": i for i in range(1001)}

    report = run(uri, write_tar(tmp_path / "a.tar", sample("a", wide)))

    assert json.loads(rows(uri)[0]["json"]) == wide
    assert len(lance.dataset(uri).schema) == 5
    assert len(report.schema_clashes) == 1


def test_members_are_kept_as_they_are_and_never_unpickled(tmp_path, uri):
    pickle = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."

    run(uri, write_tar(tmp_path / "a.tar", sample("a", pyd=pickle, pth=pickle, pickle=pickle)))

    [row] = rows(uri)
    assert row["pyd"] == row["pth"] == row["pickle"] == pickle
    assert not (tmp_path / "ran").exists()


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


@pytest.mark.parametrize("append_as", ["binary", "blob"])
def test_blob_images_are_read_back_and_appended_to_as_blobs(tmp_path, uri, append_as):
    run(
        uri,
        write_tar(tmp_path / "a.tar", sample("a", {"n": 1})),
        settings=ImportSettings(image_encoding="blob"),
    )
    run(
        uri,
        write_tar(tmp_path / "b.tar", [("b.png", b"P" * 100_000), *sample("b")]),
        settings=ImportSettings(append=True, image_encoding=append_as),
    )

    dataset = lance.dataset(uri)
    found = dataset.scanner(blob_handling="all_binary").to_table().to_pydict()
    assert found["jpg"] == [b"picture of a", b"picture of b"]
    assert found["png"] == [None, b"P" * 100_000]
    assert found["n"] == [1, None]
    assert ("blob" in str(dataset.schema.field("png").type)) == (append_as == "blob")


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


def test_too_many_extensions_are_refused(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", [(f"photo.{i}.jpg", b"") for i in range(600)])

    with pytest.raises(ShardRefused, match="first dot"):
        run(f"{uri}/new/name.lance", shard)
    assert not Path(uri).exists()  # nor are the folders left that it made above


@pytest.mark.parametrize("settings", [{"image_encoding": "jpeg"}, {"rows_per_fragment": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(WrongUsage):
        ImportSettings(**settings)


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
    shard = write_tar(tmp_path / "a.tar", sample("a", {"n": 1}))

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            if not Path(uri, "_versions").exists():
                run(uri, shard)

    with pytest.raises(CommitError, match="run the same command again"):
        import_([str(shard)], uri, engine=Overtaken())

    assert run(uri, shard).rows == 1
    assert len(rows(uri)) == 1


def test_two_appends_at_once_add_a_shard_once(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a")))
    shard = write_tar(tmp_path / "b.tar", sample("b", {"n": 1}))

    class Overtaken(Here):
        def run(self, fn, tasks, tell=None):
            yield from super().run(fn, tasks)
            if lance.dataset(uri).version == 1:
                run(uri, shard, settings=APPEND)

    with pytest.raises(CommitError, match="run the same command again"):
        import_([str(shard)], uri, settings=APPEND, engine=Overtaken())

    assert run(uri, shard).rows_added == 0
    assert [row["__key__"] for row in rows(uri)] == ["a", "b"]
