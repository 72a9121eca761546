"""Which columns samples bring, of which names and types, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import lance
import pyarrow as pa
import pytest

import laketag
from here import Here
from imports import APPEND, rows, run, staged
from laketag.engines.protocol import unheard
from laketag.errors import ShardRefused
from laketag.shards import fragments, plan
from laketag.shards.importing import ImportSettings, import_
from tars import sample, write_tar


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


def test_columns_that_appear_late_lose_no_row(tmp_path, uri):
    members = [sample(f"{i}", **({"png": b"P"} if i > 1500 else {})) for i in range(2500)]

    run(uri, write_tar(tmp_path / "a.tar", *members))

    assert lance.dataset(uri).count_rows() == 2500
    assert lance.dataset(uri).count_rows("png is not null") == 999


def test_names_that_clash_get_a_suffix_and_are_reported(tmp_path, uri):
    keys = ["jpg", "json", "__key__", "_rowid", "Width", "width", "a.b", "", "tick`", "*", "ok"]

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
        "json:*": "__json",
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


def test_a_key_of_several_types_is_kept_as_text_and_reported_once(tmp_path, uri):
    values = [{"n": 1, "f": 1, "s": "a"}, {"n": "two", "f": 0.5, "s": None}, {"n": {"x": 3}, "f": None}]
    many = [member for key, facts in zip("abc", values, strict=True) for member in sample(key, facts)]

    report = run(uri, write_tar(tmp_path / "a.tar", many))

    assert [row["n"] for row in rows(uri)] == ["1", "two", '{"x": 3}']
    [clash] = report.schema_clashes
    assert (clash["name"], clash["column"]) == ("json:n", "n")
    assert clash["reason"].startswith("no one type holds all its values")
    again = run(uri, write_tar(tmp_path / "b.tar", sample("d", {"n": 4})), settings=APPEND)
    assert again.schema_clashes == ()


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


def test_too_many_extensions_are_refused(tmp_path, uri):
    shard = write_tar(tmp_path / "a.tar", [(f"photo.{i}.jpg", b"") for i in range(600)])

    with pytest.raises(ShardRefused, match="first dot"):
        run(f"{uri}/new/name.lance", shard)
    assert not Path(uri).exists()  # nor are the folders left that it made above


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


def test_columns_of_another_width_go_on_being_filled(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a", {}, cls=b"1", txt=b"A")))
    for name, kind in {"cls": "int8", "txt": "large_string", "json": "large_string"}.items():
        laketag.cast_column(uri, name, kind)
    more = [sample("b", {}, cls=b"2\n", txt=b"B"), sample("c", {}, cls=b"300", txt=b"C")]

    report = run(uri, write_tar(tmp_path / "b.tar", *more), settings=APPEND)

    found = [(row["cls"], row["cls_bytes"], row["txt"], row["json"]) for row in rows(uri)]
    assert found == [(1, None, "A", "{}"), (2, None, "B", "{}"), (None, b"300", "C", "{}")]
    assert [clash["column"] for clash in report.schema_clashes] == ["cls_bytes"]


def test_a_column_of_structs_holds_appended_objects_that_are_empty(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a", {"exif": {"iso": 100, "by": {"x": 1}}})))

    report = run(uri, write_tar(tmp_path / "b.tar", sample("b", {"exif": {"by": {}}})), settings=APPEND)

    assert [row["exif"] for row in rows(uri)] == [
        {"iso": 100, "by": {"x": 1}},
        {"iso": None, "by": {"x": None}},
    ]
    assert report.schema_clashes == ()


def test_a_renamed_column_goes_on_being_filled(tmp_path, uri):
    run(uri, write_tar(tmp_path / "a.tar", sample("a", {"caption": "A"})))
    lance.dataset(uri).alter_columns({"path": "caption", "name": "alt"})

    run(uri, write_tar(tmp_path / "b.tar", sample("b", {"caption": "B"})), settings=APPEND)

    assert [row["alt"] for row in rows(uri)] == ["A", "B"]
    assert "caption" not in lance.dataset(uri).schema.names
