"""The whole line, on real datasets: what is computed, what is committed, what readers see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import datasets
from datasets import Storage, labels, make, right_label, staged_files
from fakes import ByteLength, DigestLabel, RaisesOn
from here import tag
from laketag.engines.local import Local
from laketag.errors import BadSQL, ColumnError, DatasetNotFound, JobRefused, TooManyErrors, WrongUsage
from laketag.lake.evolving import cast_column, rename_column
from laketag.lake.history import versions
from laketag.lake.location import Location
from laketag.tagging import joining, run
from laketag.tagging.settings import Rows, TagSettings


@pytest.mark.slow
@pytest.mark.parametrize("storage", datasets.STORAGES, ids=str)
def test_every_way_of_storing_images_is_tagged_right(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, 300, storage=storage).delete("number % 7 = 3")

    report = tag(str(tmp_path), [DigestLabel(), ByteLength()])

    found = labels(tmp_path)
    assert found == {n: right_label(n) for n in range(300) if n % 7 != 3}
    assert (report.rows, report.computed, report.skipped, report.failed) == (len(found), len(found), 0, 0)
    assert lance.dataset(str(tmp_path)).version == report.version_after == report.version_before + 1
    assert staged_files(tmp_path) == []


def test_the_second_run_has_nothing_to_do_and_makes_no_version(tmp_path: Path) -> None:
    make(tmp_path)
    first = tag(str(tmp_path), [DigestLabel()])

    second = tag(str(tmp_path), [DigestLabel()])

    assert (second.computed, second.skipped) == (0, 300)
    assert second.version_before == second.version_after == first.version_after


def test_what_another_run_did_before_this_one_held_its_lease_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)

    def overtaken(location: Location) -> None:
        monkeypatch.undo()
        tag(str(tmp_path), [DigestLabel()])

    monkeypatch.setattr(run, "require_put_if_absent", overtaken)  # it is called between look and lease

    report = tag(str(tmp_path), [DigestLabel()])

    assert (report.computed, report.skipped) == (0, 300)
    assert report.version_before == report.version_after == lance.dataset(str(tmp_path)).version == 2


@pytest.mark.slow
@pytest.mark.parametrize("storage", datasets.STORAGES, ids=str)
def test_only_appended_rows_are_computed(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, 300, storage=storage)
    tag(str(tmp_path), [DigestLabel()])
    new = datasets.table(range(300, 340), storage)
    lance.write_dataset(new, str(tmp_path), mode="append", data_storage_version=storage.version)

    report = tag(str(tmp_path), [DigestLabel()])

    assert report.computed == 40
    assert labels(tmp_path) == {n: right_label(n) for n in range(340)}


@pytest.mark.slow
def test_a_filter_and_a_limit_only_narrow(tmp_path: Path) -> None:
    make(tmp_path)

    limited = tag(str(tmp_path), [DigestLabel()], rows=Rows(where='"number" % 2 = 0', limit=70))
    assert (limited.rows, limited.computed) == (70, 70)
    assert {n for n, label in labels(tmp_path).items() if label} == set(range(0, 140, 2))
    rest = tag(str(tmp_path), [DigestLabel()])

    assert rest.computed == 230
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}


def test_rows_with_labels_behind_the_last_one_of_a_limit_are_skipped_ones(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number >= 200"))

    report = tag(str(tmp_path), [DigestLabel()], rows=Rows(limit=50))

    assert (report.rows, report.computed, report.skipped) == (150, 50, 100)


@pytest.mark.slow
def test_taggers_of_different_progress_share_a_run(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number < 150"))

    report = tag(str(tmp_path), [ByteLength(), DigestLabel()])

    assert report.version_reserved is not None
    assert report.version_after == report.version_reserved + 1
    reserved = lance.dataset(str(tmp_path), version=report.version_reserved)
    assert [reserved.count_rows(f"{name} is not null") for name in ("BYTES", "SHA256")] == [0, 150]
    *_, first, second = versions(str(tmp_path)).versions
    assert (first.made_by.get("rows"), first.columns_written) == (None, ())
    assert (second.made_by["rows"], {"BYTES", "SHA256"} <= {*second.columns_written}) == ("300", True)
    assert report.computed == 300
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}
    lengths = lance.dataset(str(tmp_path)).to_table(columns=["number", "BYTES"]).to_pylist()
    assert all(row["BYTES"] == len(datasets.image(row["number"])) for row in lengths)


@pytest.mark.slow
def test_rows_are_counted_once_where_taggers_lack_different_ones(tmp_path: Path) -> None:
    make(tmp_path)
    failing = RaisesOn(b"image 2")
    tag(str(tmp_path), [failing], rows=Rows(where="number < 200"))
    tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number >= 100"))

    report = tag(str(tmp_path), [failing, DigestLabel()])

    said = lance.dataset(str(tmp_path)).read_transaction(report.version_after).transaction_properties
    assert (said["laketag.rows"], report.failed, report.computed) == ("200", 100, 200)


@pytest.mark.slow
def test_small_fragments_share_chunks_and_keep_their_labels_apart(tmp_path: Path) -> None:
    make(tmp_path, 300, rows_per_fragment=7).delete("number in (3, 10, 11, 12, 13)")

    tag(str(tmp_path), [DigestLabel()], settings=TagSettings(chunk_rows=50), engine=Local(workers=2))

    assert labels(tmp_path) == {n: right_label(n) for n in range(300) if n not in (3, 10, 11, 12, 13)}


def test_a_row_that_fails_has_a_reason_and_the_others_have_labels(tmp_path: Path) -> None:
    make(tmp_path)

    report = tag(str(tmp_path), [RaisesOn(marker=b"image 42 ")])

    rows = lance.dataset(str(tmp_path)).to_table().to_pylist()
    failed = [row for row in rows if row["RAISES_ERROR"] is not None]
    assert [row["number"] for row in failed] == [42]
    assert failed[0]["RAISES_DIGEST"] is not None
    assert report.failed == 1
    assert report.errors[0].rows == 1


def test_where_every_row_fails_nothing_is_committed_and_the_work_is_kept(tmp_path: Path) -> None:
    before = make(tmp_path).version

    with pytest.raises(TooManyErrors, match="300 of 300 rows failed"):
        tag(str(tmp_path), [RaisesOn(marker=b"image")])

    assert lance.dataset(str(tmp_path)).version == before
    assert staged_files(tmp_path)


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path)

    report = tag(str(tmp_path), [DigestLabel()], settings=TagSettings(dry_run=True))

    assert (report.rows, report.computed) == (300, 0)
    assert not (tmp_path / "_laketag").exists()


def test_bad_requests_are_refused_in_one_line(tmp_path: Path) -> None:
    make(tmp_path)
    uri = str(tmp_path)

    for error, call in [
        (DatasetNotFound, lambda: tag(str(tmp_path / "nowhere"), [DigestLabel()])),
        (ColumnError, lambda: tag(uri, [DigestLabel()], settings=TagSettings(column="png"))),
        (ColumnError, lambda: tag(uri, [DigestLabel()], settings=TagSettings(column="number"))),
        (BadSQL, lambda: tag(uri, [DigestLabel()], rows=Rows(where="nope > 1"))),
        (BadSQL, lambda: tag(uri, [DigestLabel()], rows=Rows(where="number >"))),
        (WrongUsage, lambda: tag(uri, [DigestLabel()], settings=TagSettings(inputs={"caption": "number"}))),
        (WrongUsage, lambda: tag(uri, [DigestLabel()], settings=TagSettings(chunk_rows=0))),
    ]:
        with pytest.raises(error) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert lance.dataset(uri).version == 1


@pytest.mark.slow
def test_labels_of_another_tagger_are_never_mixed_with(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [RaisesOn(marker=b"image 42 ")], rows=Rows(limit=10))

    with pytest.raises(JobRefused, match="never mixed"):
        tag(str(tmp_path), [RaisesOn(marker=b"image 43 ")])
    rename_column(str(tmp_path), "jpg", "picture")
    with pytest.raises(JobRefused, match=r"inputs bytes=jpg \(not bytes=picture\)"):
        tag(str(tmp_path), [RaisesOn(marker=b"image 42 ")])


def test_a_column_that_differs_by_case_alone_is_refused(tmp_path: Path) -> None:
    dataset = make(tmp_path)
    dataset.add_columns({"sha256": "'x'"})

    with pytest.raises(ColumnError, match="but for case"):
        tag(str(tmp_path), [DigestLabel()])


def test_provenance_goes_with_the_columns_and_survives_compaction(tmp_path: Path) -> None:
    make(tmp_path)
    report = tag(str(tmp_path), [DigestLabel()])
    dataset = lance.dataset(str(tmp_path))
    dataset.optimize.compact_files()

    metadata = lance.dataset(str(tmp_path)).schema.field("SHA256").metadata

    assert report.jobs[0].encode() in metadata[b"laketag"]
    assert labels(tmp_path) == {n: right_label(n) for n in range(300)}


def test_a_batch_size_of_its_own_is_no_other_job(tmp_path: Path) -> None:
    make(tmp_path)
    first = tag(str(tmp_path), [DigestLabel()], rows=Rows(limit=10))

    second = tag(str(tmp_path), [replace(DigestLabel(), batch_size=5)])

    assert first.jobs == second.jobs
    assert second.computed == 290


def test_a_null_image_is_a_failed_row(tmp_path: Path) -> None:
    rows = pa.table({"jpg": pa.array([b"one", None, b"three"]), "number": [0, 1, 2]})
    lance.write_dataset(rows, str(tmp_path))

    report = tag(str(tmp_path), [DigestLabel()])

    assert report.failed == 1
    assert lance.dataset(str(tmp_path)).to_table(filter="DIGESTLABEL_ERROR is not null")[
        "number"
    ].to_pylist() == [1]


def test_any_share_of_failed_rows_can_be_allowed_or_refused(tmp_path: Path) -> None:
    make(tmp_path)
    uri, failing = str(tmp_path), RaisesOn(marker=b"image 1")

    with pytest.raises(TooManyErrors, match=r"--max-error-rate 0\.37"):
        tag(uri, [failing], settings=TagSettings(max_error_rate=0.1))
    allowed = tag(uri, [failing], settings=TagSettings(max_error_rate=0.5))

    assert (allowed.computed, allowed.failed) == (0, 111)


@pytest.mark.slow
@pytest.mark.parametrize("storage", [datasets.PLAIN, Storage("binary", "2.0", False)], ids=str)
def test_an_index_on_a_label_column_finds_labels_that_came_after_it(tmp_path: Path, storage: Storage) -> None:
    uri = str(tmp_path)
    make(tmp_path, 30, storage=storage, rows_per_fragment=10)
    tag(uri, [DigestLabel()], rows=Rows(limit=15))
    for column in ("SHA256", "DIGESTLABEL_DIGEST"):
        lance.dataset(uri).create_scalar_index(column, "BTREE")

    report = tag(uri, [DigestLabel()])

    assert report.computed == 15
    dataset = lance.dataset(uri)
    found = [dataset.count_rows(f"SHA256 = '{right_label(n)}'") for n in range(30)]
    assert found == [1] * 30
    assert dataset.count_rows("DIGESTLABEL_DIGEST is null") == 0


@pytest.mark.slow
def test_a_few_new_rows_that_all_fail_are_committed_with_their_reasons(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    failing = RaisesOn(marker=b"bad")
    tag(uri, [failing])
    lance.write_dataset(pa.table({"jpg": [b"bad"], "number": [300]}), uri, mode="append")

    report = tag(uri, [failing])

    assert (report.computed, report.failed) == (1, 1)
    assert lance.dataset(uri).count_rows("RAISES_ERROR is not null") == 1
    assert tag(uri, [failing]).computed == 0


def test_as_many_labels_as_are_laid_out_at_a_time_come_to_their_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_LEAST_ROWS", 10)
    monkeypatch.setattr(joining, "_MOST_ROWS", 10)
    make(tmp_path, 40)

    tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number between 5 and 14"))

    assert labels(tmp_path) == {n: right_label(n) if 5 <= n <= 14 else None for n in range(40)}


def test_a_label_column_of_another_type_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path, 20)
    tag(uri, [ByteLength()], rows=Rows(limit=10))
    cast_column(uri, "BYTES", "int32")

    with pytest.raises(
        JobRefused, match="'BYTES' is int32, tagger 'bytelength' makes int64: `laketag cast-col"
    ):
        tag(uri, [ByteLength()])
    report = tag(uri, [ByteLength()], rows=Rows(recompute=True))

    assert report.computed == 20
    assert lance.dataset(uri).schema.field("BYTES").type == pa.int64()
    assert lance.dataset(uri).count_rows("BYTES is not null") == 20
