"""Only what is missing, failed or replaced is computed, and only suspects are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import datasets
import writers
from datasets import PLAIN, Storage, labels, make, right_label, staged_files
from fakes import DigestLabel, FailsAtFirst, RaisesOn
from here import Here, tag
from laketag.errors import TooManyErrors
from laketag.lake.evolving import drop_column, rename_column
from laketag.tagging import run
from laketag.tagging.settings import Rows, TagSettings

pytestmark = pytest.mark.slow

STORAGES = [PLAIN, Storage("binary", "2.0", False), Storage("blob-v2", "2.2", True)]


@dataclass(frozen=True)
class Change:
    """What another writer does, and the rows whose images it replaces."""

    write: Callable[[lance.LanceDataset], Any]
    replaced: range = range(0)

    def __str__(self) -> str:
        return self.write.__name__


def compact(dataset: lance.LanceDataset) -> None:
    dataset.optimize.compact_files(target_rows_per_fragment=1000)


def index_and_compact(dataset: lance.LanceDataset) -> None:
    dataset.create_scalar_index("number", "BTREE")
    compact(lance.dataset(dataset.uri))


def delete(dataset: lance.LanceDataset) -> None:
    dataset.delete("number >= 290")


def delete_and_compact(dataset: lance.LanceDataset) -> None:
    delete(dataset)
    compact(dataset)


def add_a_column(dataset: lance.LanceDataset) -> None:
    dataset.add_columns({"doubled": "number * 2"})


def update_another_column(dataset: lance.LanceDataset) -> None:
    dataset.update({"number": "number"}, where="number between 20 and 40")


def replace_images(dataset: lance.LanceDataset) -> None:
    dataset.update({"jpg": "X'FF'"}, where="number between 20 and 29")


def replace_images_and_compact(dataset: lance.LanceDataset) -> None:
    replace_images(dataset)
    compact(lance.dataset(dataset.uri))


CHANGES = [
    Change(compact),
    Change(index_and_compact),
    Change(delete),
    Change(delete_and_compact),
    Change(add_a_column),
    Change(update_another_column),
    Change(replace_images, range(20, 30)),
    Change(replace_images_and_compact, range(20, 30)),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("storage", STORAGES[:2], ids=str)
def test_exactly_the_rows_whose_images_were_replaced_are_computed(
    tmp_path: Path, storage: Storage, change: Change
) -> None:
    uri = str(tmp_path)
    make(tmp_path, storage=storage)
    tag(uri, [DigestLabel()])
    change.write(lance.dataset(uri))
    before = lance.dataset(uri).version

    report = tag(uri, [DigestLabel()])

    assert report.computed == len(change.replaced)
    assert report.version_after == before + (1 if change.replaced else 0)
    new = hashlib.sha256(b"\xff").hexdigest()
    found = labels(tmp_path)
    assert found == {n: new if n in change.replaced else right_label(n) for n in found}
    assert tag(uri, [DigestLabel()]).computed == 0


def test_merge_insert_is_seen(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()])
    dataset = lance.dataset(str(tmp_path))
    rows = dataset.to_table(filter="number between 20 and 29")
    images = pa.array([b"\xff"] * len(rows), pa.binary())
    new = rows.set_column(rows.schema.get_field_index("jpg"), "jpg", images)
    dataset.merge_insert("number").when_matched_update_all().execute(new)

    assert tag(str(tmp_path), [DigestLabel()]).computed == 10


def test_only_suspects_are_read(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path, 300)
    tag(uri, [DigestLabel()])
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number = 250")

    report = tag(uri, [DigestLabel()])
    again = tag(uri, [DigestLabel()])

    everything = sum(len(datasets.image(n)) for n in range(300))
    assert report.computed == 1
    assert report.bytes_read < everything / 2
    assert again.bytes_read == 0


def test_a_lost_record_of_what_is_known_costs_a_look_and_no_prediction(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    first = tag(uri, [DigestLabel()])
    for record in (tmp_path / "_laketag" / first.jobs[0] / "checked").iterdir():
        record.unlink()

    report = tag(uri, [DigestLabel()])

    assert report.computed == 0
    assert report.bytes_read > sum(len(datasets.image(n)) for n in range(300))
    assert report.version_after == first.version_after


def test_a_narrow_run_does_not_vouch_for_what_it_did_not_see(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number between 20 and 29")

    narrow = tag(uri, [DigestLabel()], rows=Rows(where="number = 25"))
    whole = tag(uri, [DigestLabel()])

    assert (narrow.computed, whole.computed) == (1, 9)


def test_failed_rows_are_tried_again_only_when_asked(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data")
    failing = RaisesOn(nth=1, folder=str(tmp_path), batch_size=1)
    first = tag(uri, [failing])
    assert first.failed == 1

    plain = tag(uri, [failing])
    retried = tag(uri, [failing], rows=Rows(retry_errors=True))

    assert (plain.computed, plain.version_after) == (0, first.version_after)
    assert (retried.computed, retried.failed) == (1, 0)
    assert lance.dataset(uri).count_rows("RAISES_ERROR is not null") == 0
    assert staged_files(tmp_path / "data") == []


def test_taggers_of_one_run_each_check_their_own_labels(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [DigestLabel()])
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number = 7")
    other = RaisesOn(marker=b"image 9 ")

    report = tag(uri, [other, DigestLabel()], settings=TagSettings(chunk_rows=40))

    assert report.computed == 300
    found = labels(tmp_path)
    assert found.pop(7) == hashlib.sha256(b"\xff").hexdigest()
    assert found == {n: right_label(n) for n in range(300) if n != 7}


def test_of_a_failure_that_is_staged_and_its_retry_the_retry_counts(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data", 8)
    failing = FailsAtFirst(str(tmp_path))
    with pytest.raises(TooManyErrors):
        tag(uri, [failing])
    (tmp_path / "mended").touch()

    report = tag(uri, [failing], rows=Rows(retry_errors=True))

    assert (report.computed, report.failed, report.errors) == (8, 0, ())
    assert lance.dataset(uri).count_rows("BYTES is null") == 0


@pytest.mark.parametrize("storage", STORAGES[:2], ids=str)
def test_labels_that_a_restore_brought_back_stale_are_found(tmp_path: Path, storage: Storage) -> None:
    uri = str(tmp_path)
    make(tmp_path, storage=storage)
    tag(uri, [DigestLabel()])
    replace_images(lance.dataset(uri))
    stale = lance.dataset(uri).version
    tag(uri, [DigestLabel()])
    lance.dataset(uri, version=stale).restore()

    report = tag(uri, [DigestLabel()])

    assert report.computed == 10
    assert {labels(tmp_path)[n] for n in range(20, 30)} == {hashlib.sha256(b"\xff").hexdigest()}


class Restores(Here):
    """Brings a version back when all is computed and nothing is committed."""

    def __init__(self, uri: str, version: int) -> None:
        self.uri, self.version = uri, version

    def run(self, fn: Any, tasks: Any, tell: Any = None) -> Any:
        yield from super().run(fn, tasks)
        lance.dataset(self.uri, version=self.version).restore()


def test_stale_labels_that_came_back_during_a_run_are_found_by_the_next_one(tmp_path: Path) -> None:
    uri = writers.make(tmp_path / "d", stable_row_ids=True)
    some = Rows(where="number < 20")
    tag(uri, [DigestLabel()], rows=some)
    writers.replace_images_in_place(uri)
    stale = lance.dataset(uri).version
    tag(uri, [DigestLabel()], rows=some)

    run.tag(uri, [DigestLabel()], engine=Restores(uri, stale))
    again = tag(uri, [DigestLabel()])

    rows = lance.dataset(uri).to_table(columns=["jpg", "SHA256"]).to_pylist()
    assert [row["SHA256"] for row in rows] == [hashlib.sha256(row["jpg"]).hexdigest() for row in rows]
    assert again.computed == 5


@pytest.mark.parametrize("version", ["2.0", "2.2"])
def test_labels_of_images_whose_name_others_in_the_same_file_took_are_made_anew(
    tmp_path: Path, version: str
) -> None:
    images = {name: [b"%s %d" % (name.encode(), n) for n in range(3)] for name in ("jpg", "png")}
    lance.write_dataset(pa.table(images), str(tmp_path), data_storage_version=version)
    settings = TagSettings(column="jpg")
    tag(str(tmp_path), [DigestLabel()], settings=settings)
    drop_column(str(tmp_path), "jpg")
    rename_column(str(tmp_path), "png", "jpg")

    report = tag(str(tmp_path), [DigestLabel()], settings=settings)

    found = lance.dataset(str(tmp_path)).to_table(columns=["SHA256"])["SHA256"].to_pylist()
    assert report.computed == 3
    assert found == [hashlib.sha256(image).hexdigest() for image in images["png"]]
