"""`adopt`: labels of another program are continued, and not mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lance
import pyarrow as pa
import pytest

from datasets import image, make, table
from fakes import ByteLength, DigestLabel, FailsAtFirst, FakeModel, SlowTagger
from here import adopt, tag
from laketag.engines.local import Local
from laketag.engines.protocol import Progress
from laketag.errors import ColumnError, JobRefused, TooManyErrors
from laketag.lake.evolving import add_column
from laketag.tagging.settings import Rows, TagSettings


@dataclass(frozen=True)
class Scored:
    """AESTHETIC_SCORE and AESTHETIC_TAG from the bytes: what a model for this test says of them."""

    version: str = "1"
    name: ClassVar[str] = "aesthetic"
    reads: ClassVar[tuple[str, ...]] = ("bytes",)
    columns: ClassVar[pa.Schema] = pa.schema(
        [("AESTHETIC_SCORE", pa.float32()), ("AESTHETIC_TAG", pa.string())]
    )

    def load(self, device: str) -> FakeModel:
        return FakeModel(self.predict)

    def predict(self, batch: list[bytes]) -> pa.RecordBatch:
        return pa.record_batch(
            [pa.array([float(len(v)) for v in batch], pa.float32()), ["ours"] * len(batch)],
            schema=self.columns,
        )


def other_program(folder: Path, *, fragments: int = 2) -> str:
    """Label fragments as the vendor's program does: no provenance, an `error` tag where a row failed."""
    dataset = make(folder, 400)
    merged = []
    schema = None
    for number, fragment in enumerate(dataset.get_fragments()):
        if number >= fragments:
            merged.append(fragment.metadata)
            continue

        def scores(batch: pa.RecordBatch) -> pa.RecordBatch:
            numbers = batch["number"].to_pylist()
            return pa.record_batch(
                {
                    "AESTHETIC_SCORE": pa.array(
                        [None if n % 50 == 7 else n / 100 for n in numbers], pa.float32()
                    ),
                    "AESTHETIC_TAG": pa.array(["error" if n % 50 == 7 else "theirs" for n in numbers]),
                }
            )

        metadata, schema = fragment.merge_columns(scores, columns=["number"])
        merged.append(metadata)
    operation = lance.LanceOperation.Merge(merged, schema)
    lance.LanceDataset.commit(str(folder), operation, read_version=dataset.version)
    return str(folder)


@dataclass(frozen=True)
class Meddling:
    """The local engine, and another writer at work before its last result is given."""

    meddle: Callable[[], object]

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Iterator[Any]:
        results = list(Local().run(fn, tasks))
        self.meddle()
        yield from results


def rows(uri: str, where: str) -> list[dict[str, Any]]:
    columns = ["number", "AESTHETIC_SCORE", "AESTHETIC_TAG", "AESTHETIC_ERROR"]
    found: list[dict[str, Any]] = lance.dataset(uri).to_table(columns=columns, filter=where).to_pylist()
    return found


def test_a_half_labelled_dataset_is_adopted_and_finished(tmp_path: Path) -> None:
    uri = other_program(tmp_path)
    with pytest.raises(JobRefused, match="a program that left no provenance"):
        tag(uri, [Scored()])

    report = adopt(uri, "AESTHETIC_SCORE", Scored())
    finished = tag(uri, [Scored()])

    assert (report.labelled, report.failed, report.missing) == (200, 4, 200)
    assert finished.computed == 200
    assert {row["AESTHETIC_TAG"] for row in rows(uri, "number < 200")} == {"theirs", "error"}
    assert rows(uri, "number = 8")[0]["AESTHETIC_SCORE"] == pytest.approx(0.08)
    assert {row["AESTHETIC_TAG"] for row in rows(uri, "number >= 200")} == {"ours"}
    failed = rows(uri, "AESTHETIC_ERROR is not null")
    assert [row["number"] for row in failed] == [7, 57, 107, 157]
    assert {row["AESTHETIC_ERROR"] for row in failed} == {"adopted without AESTHETIC_SCORE"}


@pytest.mark.slow
def test_what_was_adopted_is_tried_again_recomputed_and_found_stale_like_any_label(tmp_path: Path) -> None:
    uri = other_program(tmp_path)
    adopt(uri, ["AESTHETIC_SCORE", "AESTHETIC_TAG"], Scored())
    tag(uri, [Scored()])
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number between 20 and 29")

    stale = tag(uri, [Scored()])
    retried = tag(uri, [Scored()], rows=Rows(retry_errors=True))

    assert (stale.computed, retried.computed) == (10, 4)
    assert {row["AESTHETIC_SCORE"] for row in rows(uri, "number between 20 and 29")} == {1.0}
    assert rows(uri, "AESTHETIC_ERROR is not null") == []


def test_no_image_is_written_and_every_labelled_one_is_read_once(tmp_path: Path) -> None:
    uri = other_program(tmp_path)
    seen: list[Progress] = []

    adopt(uri, "AESTHETIC_SCORE", Scored(), settings=TagSettings(progress=seen.append))

    files = {file.path for f in lance.dataset(uri, version=1).get_fragments() for file in f.metadata.files}
    now = [{file.path for file in f.metadata.files} for f in lance.dataset(uri).get_fragments()]
    assert all(files & held for held in now)
    assert {each.total for each in seen if each.unit == "rows"} == {200}
    assert (seen[-1].total, seen[-1].unit) == (2, "fragments")


def test_the_columns_say_that_they_were_adopted(tmp_path: Path) -> None:
    uri = other_program(tmp_path)

    adopt(uri, "AESTHETIC_SCORE", Scored())

    for name in ("AESTHETIC_SCORE", "AESTHETIC_TAG", "AESTHETIC_ERROR"):
        said = json.loads(lance.dataset(uri).schema.field(name).metadata[b"laketag"])
        assert said["tagger"] == "aesthetic"
        assert said["adopted_from"] == "a program that left no provenance"
        assert not any(key.startswith("version.") for key in said)


def test_values_of_sql_are_no_labels_of_a_model(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [Scored()])
    add_column(uri, "AESTHETIC_TAG", "'high'", replace=True)

    with pytest.raises(JobRefused, match="'AESTHETIC_TAG' was made by add-column"):
        adopt(uri, "AESTHETIC_SCORE", Scored())


def test_a_recompute_of_all_rows_forgets_that_columns_were_adopted(tmp_path: Path) -> None:
    uri = other_program(tmp_path)
    adopt(uri, "AESTHETIC_SCORE", Scored())

    tag(uri, [Scored()], rows=Rows(where="number < 10", recompute=True))
    part = lance.dataset(uri).schema.field("AESTHETIC_TAG").metadata[b"laketag"]
    tag(uri, [Scored()], rows=Rows(recompute=True))
    whole = lance.dataset(uri).schema.field("AESTHETIC_TAG").metadata[b"laketag"]

    assert (b"adopted_from" in part, b"adopted_from" in whole) == (True, False)
    assert {row["AESTHETIC_TAG"] for row in rows(uri, "true")} == {"ours"}


def test_labels_made_with_other_parameters_are_not_adopted(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path)
    tag(uri, [ByteLength(batch_size=2)])
    before = lance.dataset(uri).version

    with pytest.raises(JobRefused, match=r"with seconds_per_batch unset, tagger 'slow' has 0\.1"):
        adopt(uri, "BYTES", SlowTagger())

    assert lance.dataset(uri).version == before


def test_labels_of_another_laketag_tagger_keep_their_states_and_stale_ones_are_left(tmp_path: Path) -> None:
    uri = str(tmp_path)
    make(tmp_path, 300)
    tag(uri, [Scored(version="before a refactoring")], rows=Rows(where="number < 200"))
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number between 20 and 29")

    report = adopt(uri, "AESTHETIC_SCORE", Scored())
    finished = tag(uri, [Scored()])

    assert (report.labelled, report.failed, report.missing) == (190, 0, 110)
    assert finished.computed == 110
    assert {row["AESTHETIC_SCORE"] for row in rows(uri, "number between 20 and 29")} == {1.0}
    assert rows(uri, "number = 8")[0]["AESTHETIC_SCORE"] == len(image(8))


def test_an_adoption_that_broke_before_its_last_step_is_finished_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = other_program(tmp_path)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("laketag.tagging.adopting.set_field_metadata", broken)
        with pytest.raises(KeyboardInterrupt):
            adopt(uri, "AESTHETIC_SCORE", Scored())
    with pytest.raises(JobRefused, match="a program that left no provenance"):
        tag(uri, [Scored()])

    report = adopt(uri, "AESTHETIC_SCORE", Scored())

    assert (report.labelled, report.missing) == (200, 200)
    assert tag(uri, [Scored()]).computed == 200


def test_an_adoption_that_broke_after_the_old_states_went_still_knows_what_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    make(tmp_path, 300)
    tag(uri, [Scored(version="before a refactoring")])
    lance.dataset(uri).update({"jpg": "X'FF'"}, where="number between 20 and 29")

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("laketag.tagging.committing.commit_columns", broken)
        with pytest.raises(KeyboardInterrupt):
            adopt(uri, "AESTHETIC_SCORE", Scored())
    assert "AESTHETIC_DIGEST" not in lance.dataset(uri).schema.names
    report = adopt(uri, "AESTHETIC_SCORE", Scored())
    tag(uri, [Scored()])

    assert (report.labelled, report.missing) == (290, 10)
    assert {row["AESTHETIC_SCORE"] for row in rows(uri, "number between 20 and 29")} == {1.0}


def test_what_cannot_be_adopted_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    uri = other_program(tmp_path)
    before = lance.dataset(uri).version

    with pytest.raises(ColumnError, match="has no label column 'number', it has AESTHETIC_SCORE"):
        adopt(uri, "number", Scored())
    with pytest.raises(ColumnError, match="there is no column 'SHA256'"):
        adopt(uri, "SHA256", DigestLabel())

    assert lance.dataset(uri).version == before
    lance.dataset(uri).alter_columns({"path": "AESTHETIC_SCORE", "data_type": pa.float64()})
    with pytest.raises(ColumnError, match="is double, tagger 'aesthetic' makes float: `laketag cast-column`"):
        adopt(uri, "AESTHETIC_SCORE", Scored())


def test_a_taggers_own_columns_are_not_adopted(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [Scored()])

    with pytest.raises(JobRefused, match="there is nothing to adopt"):
        adopt(str(tmp_path), "AESTHETIC_SCORE", Scored())


@pytest.mark.slow
@pytest.mark.parametrize("write", ["replace", "move", "compact", "delete"])
def test_what_others_write_during_an_adoption_is_kept_and_no_label_is_misplaced(
    tmp_path: Path, write: str
) -> None:
    uri = other_program(tmp_path)

    def meddle() -> None:
        dataset = lance.dataset(uri)
        if write == "replace":
            dataset.update(
                {"jpg": "arrow_cast(repeat('x', number), 'Binary')"}, where="number between 20 and 29"
            )
        elif write == "move":
            dataset.update({"number": "number"}, where="number between 20 and 29")
        elif write == "compact":
            dataset.optimize.compact_files(target_rows_per_fragment=1000)
        else:
            dataset.delete("number between 20 and 29")

    adopt(uri, "AESTHETIC_SCORE", Scored(), engine=Meddling(meddle))
    tag(uri, [Scored()])

    found = {row["number"]: row for row in rows(uri, "AESTHETIC_TAG is not null")}
    assert len(found) == lance.dataset(uri).count_rows() == (390 if write == "delete" else 400)
    theirs = {n for n, row in found.items() if row["AESTHETIC_TAG"] != "ours"}
    touched = set() if write == "compact" else set(range(20, 30))
    assert theirs == set(range(200)) - touched
    lengths = (
        lance.dataset(uri).to_table(columns=["number", "jpg"], filter="AESTHETIC_TAG = 'ours'").to_pylist()
    )
    assert all(found[row["number"]]["AESTHETIC_SCORE"] == len(row["jpg"]) for row in lengths)


def test_failures_that_were_staged_before_an_adoption_do_not_come_after_it(tmp_path: Path) -> None:
    uri, tagger = str(tmp_path / "d"), FailsAtFirst(str(tmp_path))
    make(tmp_path / "d", 8)
    with pytest.raises(TooManyErrors):
        tag(uri, [tagger])
    (tmp_path / "mended").touch()
    lance.dataset(uri).add_columns({"BYTES": "number"})
    adopt(uri, "BYTES", tagger)
    lance.dataset(uri).insert(table(range(8, 12)))

    report = tag(uri, [tagger])

    assert (report.computed, report.failed) == (4, 0)
    assert lance.dataset(uri).count_rows("number < 8 and BYTES = number and MENDED_ERROR is null") == 8


def test_what_a_broken_adoption_has_staged_says_nothing_of_labels_that_came_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path)
    make(tmp_path, 8).add_columns({"BYTES": "number"})

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("laketag.tagging.committing.commit_columns", broken)
        with pytest.raises(KeyboardInterrupt):
            adopt(uri, "BYTES", ByteLength())
    lance.dataset(uri).drop_columns(["BYTES"])
    lance.dataset(uri).add_columns({"BYTES": "nullif(number, 7)"})

    report = adopt(uri, "BYTES", ByteLength())

    assert (report.labelled, report.missing) == (7, 1)
    assert tag(uri, [ByteLength()]).computed == 1
