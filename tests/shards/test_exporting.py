"""An export, as those see it who read its shards: the public packages, and laketag's own import."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import laketag
from datasets import STORAGES, Storage, image, make
from fakes import DigestLabel, ReturnsNaN
from here import Here, import_, tag
from laketag import ExportSettings, Local
from laketag.engines.protocol import Engine
from laketag.errors import (
    BadSQL,
    ColumnError,
    DatasetNotFound,
    JobRefused,
    LinkBroken,
    ShardError,
    ShardRefused,
    WrongUsage,
)
from laketag.shards.putting import header
from tars import sample, write_tar

pytestmark = [
    # The public package leaves the closing of its files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
WIDS = Path(sys.prefix, "wids")
"""Where `make test` puts the last webdataset that brought wids along."""


def imported(tmp_path: Path, *samples: Sequence[tuple[str, bytes]]) -> str:
    uri = str(tmp_path / "dataset")
    import_([str(write_tar(tmp_path / "in.tar", *samples))], uri)
    return uri


@pytest.fixture(scope="module")
def tagged_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 rows with labels, one of them failed."""
    folder = tmp_path_factory.mktemp("tagged")
    rows = [sample(f"photos/{n:03d}", {"n": n, "big": 1 << 70}, txt=b"caption %d" % n) for n in range(25)]
    uri = imported(folder, *rows)
    tag(uri, [DigestLabel(), ReturnsNaN(marker=b"007")])
    return Path(uri)


@pytest.fixture
def tagged(tagged_once: Path, tmp_path: Path) -> str:
    """A dataset with labels that a test may change."""
    return str(shutil.copytree(tagged_once, tmp_path / "tagged"))


def export(uri: str, out: Path, pattern: str = "{000000..}.tar", **settings: Any) -> laketag.ExportReport:
    return laketag.export(uri, f"{out}/{pattern}", settings=ExportSettings(**settings), engine=Here())


def tars(out: Path) -> list[Path]:
    return sorted(out.glob("*.tar"))


def read(out: Path) -> list[dict[str, Any]]:
    """Read every sample with the public package, as it stands in the shards; importing it takes seconds."""
    import webdataset

    reader = webdataset.WebDataset([str(tar) for tar in tars(out)], shardshuffle=False)
    return [{k: v for k, v in each.items() if k not in ("__url__", "__local_path__")} for each in reader]


def keys_by_shard(out: Path) -> list[list[str]]:
    found = []
    for tar in tars(out):
        with tarfile.open(tar) as members:
            found.append([name.partition(".")[0] for name in members.getnames()])
    return found


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


@pytest.mark.parametrize("size", [0, 512, 100_000, 8**11 - 1, 8**11])
@pytest.mark.parametrize(
    "name", ["a.jpg", "x" * 100, "x" * 101, "ü.jpg", "a/b c.json", "a" * 90 + "/" + "b" * 90]
)
def test_the_header_of_a_member_is_the_one_that_tarfile_writes(name, size):
    member = tarfile.TarInfo(name)
    member.size = size

    assert header(name, size) == member.tobuf(tarfile.PAX_FORMAT)


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
    assert shards == [3, 1, 3, 2]
    assert [tar.stat().st_size > 40_960 for tar in tars(tmp_path / "out")] == [False, True, False, False]
    assert report.shards == 4


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
    with pytest.raises(RuntimeError, match="lights out"):
        laketag.export(
            tagged,
            str(tmp_path / "out"),
            settings=ExportSettings(samples_per_shard=5),
            engine=StopsAfter(2),
        )
    assert len(tars(tmp_path / "out")) == 2
    laketag.add_column(tagged, "LATER", "n + 1")

    report = export(tagged, tmp_path / "out", samples_per_shard=5)

    assert (report.version, report.shards, report.shards_written) == (2, 5, 3)
    assert [each["__key__"] for each in read(tmp_path / "out")] == [f"photos/{n:03d}" for n in range(25)]
    assert not any("LATER" in json.loads(each["json"]) for each in read(tmp_path / "out"))


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
