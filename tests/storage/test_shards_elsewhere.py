"""Shards on a store and on the web: found by address, read as ranges, in the end the same rows."""

from __future__ import annotations

import gzip
import json
import uuid
from pathlib import Path

import lance
import pytest

import laketag
from here import import_
from laketag.errors import ShardError, ShardNotFound, ShardRefused
from laketag.shards import ranged
from laketag.shards.sources import find_shards
from programs import run
from servers import BUCKET, Store, client, flags, web
from tars import END, header, padded, sample, tar_bytes

pytestmark = pytest.mark.slow


def put(store: Store, uri: str, content: bytes) -> str:
    client(store).put_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"), Body=content)
    return uri


def tar(*keys: str, size: int = 100) -> bytes:
    return tar_bytes([(f"{key}.jpg", key.encode() * size) for key in keys])


@pytest.fixture
def folder(uri: str) -> str:
    return uri.removesuffix("/dataset") + "/shards"


def test_folders_globs_ranges_and_lists_name_shards_on_a_store(tmp_path, store, folder):
    for name in ("s-08.tar", "s-09.tar", "s-10.tgz", "notes.txt", "deep/s-11.tar", ".hidden.tar"):
        put(store, f"{folder}/{name}", b"x")
    (tmp_path / "list.txt").write_text(f"{folder}/s-09.tar\n{folder}/s-08.tar\n")

    def names(*arguments: str) -> list[str]:
        return [shard.url.removeprefix(f"{folder}/") for shard in find_shards(arguments, store.options)]

    assert names(folder) == names(f"{folder}/") == ["s-08.tar", "s-09.tar", "s-10.tgz"]
    assert names(f"{folder}/s-*.tar") == names(f"{folder}/s-{{08..09}}.tar") == ["s-08.tar", "s-09.tar"]
    assert names(f"{folder}/**/s-1?.t*") == ["deep/s-11.tar", "s-10.tgz"]
    assert names(f"@{tmp_path}/list.txt", f"{folder}/s-0[!9].tar") == ["s-09.tar", "s-08.tar"]
    assert names(f"{folder}/notes.txt") == ["notes.txt"]
    with pytest.raises(ShardNotFound, match="no shard 's3://"):
        names(f"{folder}/missing.tar")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_shards_on_the_store_become_the_rows_that_local_ones_become(
    tmp_path, store, uri, folder, pack, monkeypatch
):
    monkeypatch.setattr(ranged, "BLOCK", 10_000)  # ranges that end anywhere
    content = pack(tar_bytes([(f"{i}.jpg", bytes([i]) * (700 * i)) for i in range(60)]))
    (tmp_path / "a.tar").write_bytes(content)
    put(store, f"{folder}/a.tar", content)

    local = import_([str(tmp_path / "a.tar")], str(tmp_path / "dataset"))
    report = import_([folder], uri, storage_options=store.options)

    rows = lance.dataset(str(tmp_path / "dataset")).to_table(columns=["__key__", "__offset__", "jpg"])
    found = lance.dataset(uri, storage_options=store.options).to_table()
    assert found.select(rows.schema.names).equals(rows)
    assert set(found["__url__"].to_pylist()) == {f"{folder}/a.tar"}
    assert report.bytes_read == report.bytes_shards == local.bytes_read == len(content)
    assert report.complete


def test_a_bucket_is_a_folder_and_a_name_may_hold_what_would_be_a_glob(store, uri, folder):
    name = f"{uuid.uuid4().hex}[0].tar"
    put(store, f"s3://{BUCKET}/{name}", tar("a"))
    put(store, f"{folder}/a[0].tar", tar("a"))

    report = import_([folder], uri, storage_options=store.options)
    at_the_root = find_shards([f"s3://{BUCKET}"], store.options)

    assert report.rows == 1
    assert f"s3://{BUCKET}/{name}" in [shard.url for shard in at_the_root]


def test_a_shard_that_was_replaced_is_read_again_and_one_that_was_not_is_not(store, uri, folder):
    put(store, f"{folder}/a.tar", tar("a", "b"))
    options = store.options
    import_([folder], uri, storage_options=options)
    same = import_([folder], uri, storage_options=options)
    put(store, f"{folder}/a.tar", tar("a", "b", "c"))

    more = import_([folder], uri, storage_options=options)

    assert (same.bytes_read, same.rows_added, more.rows_added, more.rows) == (0, 0, 1, 3)


def test_shards_of_another_store_have_options_of_their_own(tmp_path, store, folder):
    put(store, f"{folder}/a.tar", tar("a", "b"))
    flagged = flags("--shard-option", store.options)

    done = run("import", f"{folder}/a.tar", tmp_path / "dataset", "--json", *flagged)

    assert json.loads(done.stdout)["rows"] == 2


def test_wrong_credentials_are_one_line_that_does_not_show_them(tmp_path, store, folder):
    wrong = store.options | {"secret_access_key": "not-the-s3cret"}

    with pytest.raises(ShardError, match=r"403 Forbidden.*look at the credentials") as error:
        find_shards([f"{folder}/a.tar"], wrong)

    assert "s3cret" not in str(error.value)


def test_unordered_shards_on_a_store_are_joined(store, uri, folder):
    members = [("a.jpg", b"A"), ("b.jpg", b"B"), ("a.txt", b"text"), ("b.txt", b"")]
    put(store, f"{folder}/a.tar", tar_bytes(members))

    import_([folder], uri, storage_options=store.options)

    rows = lance.dataset(uri, storage_options=store.options).to_table(columns=["__key__", "jpg", "txt"])
    assert rows.to_pylist() == [
        {"__key__": "a", "jpg": b"A", "txt": "text"},
        {"__key__": "b", "jpg": b"B", "txt": ""},
    ]


def test_a_dry_run_skips_large_bodies_and_says_what_it_read(tmp_path, store, uri, folder):
    large = tar_bytes([member for i in range(4) for member in sample(f"{i}", {"n": i}, bin=bytes(5 << 20))])
    put(store, f"{folder}/a.tar", large)
    (tmp_path / "a.tar").write_bytes(large)
    dry = laketag.ImportSettings(dry_run=True)

    there = import_([folder], uri, storage_options=store.options, settings=dry)
    here = import_([str(tmp_path)], str(tmp_path / "dataset"), settings=dry)
    for report in (there, here):
        assert report.rows == 4
        assert [column["name"] for column in report.columns][3:] == ["jpg", "bin", "json", "n"]
        assert 0 < report.bytes_read < report.bytes_shards / 2


def test_shards_on_the_web_are_read_and_a_signature_is_not_kept(tmp_path):
    uri = str(tmp_path / "dataset")
    with web({"/a.tar": tar("a", "b"), "/b.tar": tar("c")}) as (address, asked):
        import_([f"{address}/a.tar?signature=s3cret", f"{address}/b.tar"], uri)
        again = import_([f"{address}/a.tar?signature=0ther", f"{address}/b.tar"], uri)

        assert lance.dataset(uri).to_table(columns=["__url__"])["__url__"].to_pylist() == [
            *[f"{address}/a.tar"] * 2,
            f"{address}/b.tar",
        ]
    assert again.bytes_read == 0
    assert any("s3cret" in path for path in asked)
    assert not [path for path in Path(uri).rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]


def test_an_empty_shard_on_the_web_is_named_and_the_others_are_read(tmp_path):
    with web({"/a.tar": b"", "/b.tar": tar("b")}) as (address, _):
        report = import_([f"{address}/{{a,b}}.tar"], str(tmp_path / "dataset"))

    assert (report.rows, report.complete) == (1, False)
    assert [(row["shard"], row["reason"]) for row in report.lost] == [
        (f"{address}/a.tar", "the file is empty")
    ]


def test_an_address_is_asked_for_as_the_web_wants_it_escaped(tmp_path):
    with web({"/my%20tars/%C3%BC%25.tar": tar("a")}) as (address, asked):
        report = import_([f"{address}/my tars/ü%25.tar?signature=a+b/c%3D"], str(tmp_path / "dataset"))

    assert report.rows == 1
    assert set(asked) == {"/my%20tars/%C3%BC%25.tar?signature=a+b/c%3D"}


def test_a_redirection_is_followed(tmp_path):
    with web({"/a.tar": tar("a", "b")}) as (address, _):
        report = import_([f"{address}/old.tar"], str(tmp_path / "dataset"))

    assert report.rows == 2


def test_what_the_web_does_not_have_or_does_not_give_is_said(tmp_path):
    with web({"/a.tar": tar("a")}, ranges=False) as (address, _):
        with pytest.raises(ShardNotFound, match="no shard http"):
            find_shards([f"{address}/missing.tar?signature=s3cret"])
        with pytest.raises(ShardRefused, match="no ranges"):
            find_shards([f"{address}/a.tar"])
    with (
        web({"/a.tar": tar("a")}) as (address, _),
        pytest.raises(ShardRefused, match="but for a query"),
    ):
        find_shards([f"{address}/a.tar?id=1", f"{address}/a.tar?id=2"])


def test_a_shard_that_claims_to_be_huge_is_read_in_bounded_memory(store, uri, folder):
    content = (
        header(b"a.jpg", size_field=b"\x80" + (10 << 30).to_bytes(11, "big"))
        + padded(b"A")
        + header(b"b.jpg", 1)
        + padded(b"B")
        + END
    )
    put(store, f"{folder}/a.tar", content)

    report = import_([folder], uri, storage_options=store.options)

    assert (report.rows, report.complete) == (1, False)
    assert "cut off" in report.lost[0]["reason"]
