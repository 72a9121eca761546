"""Shards on an object store, and a dataset there."""

from __future__ import annotations

import lance
import pyarrow as pa
import pytest

import laketag
from laketag import ExportSettings, Local
from laketag.lake.dataset import open_dataset
from laketag.lake.folder import Folder
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from servers import BUCKET, Store
from tars import sample, write_tar

pytestmark = pytest.mark.slow


def test_an_export_to_a_store_goes_on_and_has_the_same_bytes_as_one_to_a_folder(tmp_path, store: Store, uri):
    shard = write_tar(tmp_path / "in.tar", *(sample(f"a/{n:02d}", {"n": n}) for n in range(30)))
    laketag.import_([str(shard)], uri, storage_options=store.options)
    settings = ExportSettings(where="n < 25", samples_per_shard=10)
    out = Folder(Location.of(f"{uri}-out", store.options))

    local = laketag.export(uri, str(tmp_path / "out"), storage_options=store.options, settings=settings)
    first = laketag.export(
        uri, f"{uri}-out", storage_options=store.options, settings=settings, engine=Local(2)
    )
    names = out.names()
    out.delete(["000001.tar"])
    second = laketag.export(uri, f"{uri}-out", storage_options=store.options, settings=settings)

    assert names == ["000000.tar", "000001.tar", "000002.tar", "shardindex.json"]
    assert (first.shards, first.samples, first.bytes) == (3, 25, local.bytes)
    assert (second.shards_written, second.samples, second.bytes) == (1, 25, local.bytes)
    dataset = Location.of(uri, store.options)
    assert open_dataset(dataset).tags.list() == {}
    assert [name for name in StagedFiles(dataset, "").all_names() if name.startswith("export")] == []
    for name in names:
        assert out.read(name) == (tmp_path / "out" / name).read_bytes()


def test_a_local_dataset_goes_to_a_store_with_options_of_its_own(tmp_path, store: Store):
    lance.write_dataset(pa.table({"jpg": [b"1", b"2"]}), str(tmp_path / "dataset"))
    settings = ExportSettings(shard_options=store.options)

    laketag.export(str(tmp_path / "dataset"), f"s3://{BUCKET}/own/%03d.parquet", settings=settings)

    assert Folder(Location.of(f"s3://{BUCKET}/own", store.options)).names() == ["000.parquet"]
