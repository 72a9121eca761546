"""What a row becomes, as those see it who read shards: the public packages, and laketag's own import."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import exports
import laketag
from datasets import STORAGES, Storage, image, make
from exports import export, imported, read, tars
from here import import_
from laketag.lake.browsing import View
from laketag.lake.location import Location
from laketag.shards.putting import header
from tars import sample

pytestmark = exports.READ_BY_WEBDATASET
WIDS = Path(sys.prefix, "wids")
"""Where `make test` puts the last webdataset that brought wids along."""


def test_webdataset_reads_the_images_unchanged_with_the_labels_in_the_json(tmp_path, tagged):

    report = export(tagged, tmp_path / "out", samples_per_shard=10)

    samples = read(tmp_path / "out")
    assert (report.shards, report.samples) == (3, 25)
    assert report.bytes == sum(tar.stat().st_size for tar in tars(tmp_path / "out"))
    assert [each["__key__"] for each in samples] == [f"photos/{n:03d}" for n in range(25)]
    for n, each in enumerate(samples):
        picture = b"picture of photos/%03d" % n
        values = json.loads(each["json"])
        assert each["jpg"] == picture
        assert each["txt"] == b"caption %d" % n
        assert (values["n"], values["big"]) == (n, 1 << 70)
        assert values["SHA256"] == hashlib.sha256(picture).hexdigest()
        assert values["SCORE"] == (None if n == 7 else float(len(picture)))
        assert (values["RETURNSNAN_ERROR"] is None) == (n != 7)
        assert not any(name.endswith("_DIGEST") for name in values)


@pytest.mark.slow
def test_wids_reads_the_index(tmp_path, tagged):
    if not (WIDS / "wids").is_dir():
        assert "CI" not in os.environ, f"`make test` puts wids into {WIDS}"
        pytest.skip(f"no wids in {WIDS}; `make test` puts it there")
    export(tagged, tmp_path / "out", samples_per_shard=10)
    program = (
        "import json, sys, wids\n"
        "samples = wids.ShardListDataset(sys.argv[1], cache_dir=sys.argv[2], transformations=[])\n"
        "found = [samples[at] for at in range(len(samples))]\n"
        "told = [[s['__key__'], s['.jpg'].read().decode(), json.load(s['.json'])['n']] for s in found]\n"
        "print(json.dumps(told))"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "out/shardindex.json"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(WIDS)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    keys = [f"photos/{n:03d}" for n in range(25)]
    assert json.loads(done.stdout.splitlines()[-1]) == [
        [key, f"picture of {key}", n] for n, key in enumerate(keys)
    ]


@pytest.mark.slow
def test_import_tag_export_import_gives_the_same_rows_and_labels(tmp_path, tagged):
    export(tagged, tmp_path / "out", samples_per_shard=10)

    import_([str(tmp_path / "out")], str(tmp_path / "again"))

    columns = ["__key__", "jpg", "txt", "n", "big", "SHA256", "SHA", "SCORE", "DIGESTLABEL_ERROR"]
    before = lance.dataset(tagged).to_table(columns=columns)
    after = lance.dataset(str(tmp_path / "again")).to_table(columns=columns)
    assert after.to_pylist() == before.to_pylist()


@pytest.mark.parametrize("size", [0, 512, 100_000, 8**11 - 1, 8**11])
@pytest.mark.parametrize(
    "name", ["a.jpg", "x" * 100, "x" * 101, "ü.jpg", "a/b c.json", "a" * 90 + "/" + "b" * 90]
)
def test_the_header_of_a_member_is_the_one_that_tarfile_writes(name, size):
    member = tarfile.TarInfo(name)
    member.size = size

    assert header(name, size) == member.tobuf(tarfile.PAX_FORMAT)


def test_rows_without_an_image_stay_samples(tmp_path):
    uri = imported(tmp_path, sample("a", {"n": 1}), [("b.json", b'{"n": 2}')], [("c.txt", b"only text")])

    export(uri, tmp_path / "out")

    assert read(tmp_path / "out") == [
        {"__key__": "a", "jpg": b"picture of a", "json": b'{"n": 1}'},
        {"__key__": "b", "json": b'{"n": 2}'},
        {"__key__": "c", "txt": b"only text"},
    ]


def test_members_of_several_extensions_come_back_under_their_names(tmp_path):
    members = {
        "jpg": b"\xff\xd8\xff",
        "seg.png": b"\x89PNG",
        "cls": b"7",
        "npy": b"\0numpy",
        "my_note": b"hm",
    }
    uri = imported(tmp_path, [(f"a/b.{name}", body) for name, body in members.items()])

    export(uri, tmp_path / "out")

    assert read(tmp_path / "out") == [{"__key__": "a/b", **members}]


def test_keys_that_lead_astray_are_renamed_counted_and_told(tmp_path):
    keys = ["../../etc/passwd", "/abs", "a.b", "ok/fine", "ok/fine", "__x__/y", "", None, "dir/", "a\nb"]
    table = pa.table({"__key__": pa.array(keys), "jpg": [b"%d" % n for n in range(10)]})
    lance.write_dataset(table, str(tmp_path / "dataset"))

    report = export(str(tmp_path / "dataset"), tmp_path / "out")

    samples = read(tmp_path / "out")
    names = [each["__key__"] for each in samples]
    assert [each["jpg"] for each in samples] == [b"%d" % n for n in range(10)]
    assert len(set(names)) == 10
    assert names[3:5] == ["ok/fine", "ok/fine-2"]
    assert names[7] == "000000007"
    assert not any(name.startswith("/") or ".." in name.split("/") for name in names)
    told = [json.loads(each["json"])["__key__"] if "json" in each else None for each in samples]
    assert told == [keys[n] if names[n] != keys[n] and n != 7 else None for n in range(10)]
    assert report.renamed == 8
    import_([str(tmp_path / "out")], str(tmp_path / "again"))
    assert lance.dataset(str(tmp_path / "again")).to_table()["__key__"].to_pylist() == names


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("pattern", ["{000000..}.tar", "{000000..}.parquet"])
def test_every_way_of_storing_images_gives_their_bytes(tmp_path, storage: Storage, pattern):
    dataset = make(tmp_path / "dataset", 60, storage=storage, rows_per_fragment=25)
    dataset.delete("number in (0, 24, 30, 59)")

    report = export(dataset.uri, tmp_path / "out", pattern, where="number <> 40", samples_per_shard=20)

    kept = [n for n in range(60) if n not in (0, 24, 30, 40, 59)]
    assert (report.shards, report.samples) == (3, 55)
    if pattern.endswith(".tar"):
        found = [(json.loads(each["json"])["number"], each["jpg"]) for each in read(tmp_path / "out")]
    else:
        table = pa.concat_tables(pq.read_table(file) for file in sorted((tmp_path / "out").glob("*.parquet")))
        found = list(zip(table["number"].to_pylist(), table["jpg"].to_pylist(), strict=True))
    assert found == [(n, image(n)) for n in kept]


def test_parquet_has_the_columns_with_their_types_and_images_where_they_are_wanted(tmp_path, tagged):

    export(tagged, tmp_path / "with", "{00..}.parquet", samples_per_shard=10)
    export(tagged, tmp_path / "without", "{00..}.parquet", images=False)

    full = pq.read_table(tmp_path / "with" / "02.parquet")
    bare = pq.read_table(tmp_path / "without" / "00.parquet")
    assert full["jpg"].to_pylist() == [b"picture of photos/%03d" % n for n in range(20, 25)]
    assert full.schema.field("SCORE").type == pa.float32()
    assert "jpg" not in bare.schema.names
    assert bare["SHA256"].to_pylist() == lance.dataset(tagged).to_table()["SHA256"].to_pylist()
    assert not (tmp_path / "with" / "shardindex.json").exists()


def test_vectors_go_into_the_json_only_where_they_are_named(tmp_path):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 1.5, 2.5, 3.5], pa.float32()), 2)
    lance.write_dataset(pa.table({"jpg": [b"1", b"2"], "V": vectors}), str(tmp_path / "dataset"))

    export(str(tmp_path / "dataset"), tmp_path / "out")
    export(str(tmp_path / "dataset"), tmp_path / "named", columns=("V",))

    assert all(each.keys() == {"__key__", "jpg"} for each in read(tmp_path / "out"))
    assert [json.loads(each["json"])["V"] for each in read(tmp_path / "named")] == [[0.5, 1.5], [2.5, 3.5]]


def test_json_that_is_bytes_stays_bytes_beside_the_labels(tmp_path):
    uri = imported(
        tmp_path, [("a.jpg", b"1"), ("a.json", b"\xff not text")], [("b.jpg", b"2"), ("b.json", b"{}")]
    )
    laketag.add_column(uri, "ONE", "1")

    export(uri, tmp_path / "out")

    assert read(tmp_path / "out") == [
        {"__key__": "a", "jpg": b"1", "json_bytes": b"\xff not text", "json": b'{"ONE": 1}'},
        {"__key__": "b", "jpg": b"2", "json": b'{"ONE": 1}'},
    ]


def test_a_column_that_was_replaced_since_the_import_goes_out_as_it_is_now(tmp_path):
    uri = imported(tmp_path, sample("a", {"width": 5, "kept": 1}))
    laketag.add_column(uri, "width", "width * 2", replace=True)

    export(uri, tmp_path / "out")

    assert json.loads(read(tmp_path / "out")[0]["json"]) == {"width": 10, "kept": 1}


def test_columns_of_a_json_that_is_gone_go_out_by_themselves(tmp_path):
    uri = imported(tmp_path, sample("a", {"width": 5, "tags": ["x", "y"]}))
    laketag.drop_column(uri, "json")

    export(uri, tmp_path / "out")

    assert json.loads(read(tmp_path / "out")[0]["json"]) == {"width": 5, "tags": ["x", "y"]}


def test_times_go_out_to_the_microsecond(tmp_path):
    uri, seen = str(tmp_path / "dataset"), pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC"))
    lasted, at = seen.cast(pa.int64()).cast(pa.duration("ns")), pa.array([1_999], pa.time64("ns"))
    inside = pa.array([[{"seen": seen[0]}]], pa.list_(pa.struct([("seen", seen.type)])))
    columns = {"jpg": [b"x"], "seen": seen, "lasted": lasted, "at": at, "inside": inside}
    lance.write_dataset(pa.table(columns), uri)

    export(uri, tmp_path / "out")

    assert json.loads(read(tmp_path / "out")[0]["json"]) == {
        "seen": "2023-11-14T22:13:20.123456+00:00",
        "lasted": "19675 days, 22:13:20.123456",
        "at": "00:00:00.000001",
        "inside": [{"seen": "2023-11-14T22:13:20.123456+00:00"}],
    }
    assert View.of(Location.of(uri)).rows([0], ["at"]) == [{"at": datetime.time(microsecond=1)}]
    assert next(iter(laketag.torch_dataset(uri, columns=["at"]))) == {"at": datetime.time(microsecond=1)}


def test_a_column_just_called_image_takes_the_extension_of_its_bytes(tmp_path):
    bodies = [b"\xff\xd8\xff jpeg", b"\x89PNG...", b"RIFF....WEBP", b"something else"]
    lance.write_dataset(
        pa.table({"image": bodies, "score": [1.5, 2.5, None, 4.0]}), str(tmp_path / "dataset")
    )

    export(str(tmp_path / "dataset"), tmp_path / "out")

    samples = read(tmp_path / "out")
    assert [next(iter(each.keys() - {"__key__", "json"})) for each in samples] == [
        "jpg",
        "png",
        "webp",
        "image",
    ]
    assert [each["__key__"] for each in samples] == [f"{n:09d}" for n in range(4)]
    assert [json.loads(each["json"]) for each in samples] == [{"score": s} for s in (1.5, 2.5, None, 4.0)]
