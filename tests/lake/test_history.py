"""Who made each version, names for versions, and the way back."""

from __future__ import annotations

import datetime
from pathlib import Path

import lance
import pytest

import datasets
from datasets import PLAIN, Storage, make
from fakes import DigestLabel
from here import tag
from laketag.errors import DatasetError, DatasetNotFound
from laketag.lake.evolving import add_column, cast_column, drop_column
from laketag.lake.history import restore, versions
from laketag.tagging.settings import Rows


@pytest.mark.slow
def test_each_version_says_who_made_it_and_what_it_changed(tmp_path: Path) -> None:
    make(tmp_path).delete("number < 10")
    tag(str(tmp_path), [DigestLabel()])
    add_column(str(tmp_path), "X", "number + 1")
    drop_column(str(tmp_path), "X")

    shown = versions(str(tmp_path)).versions

    assert [each.version for each in shown] == [1, 2, 3, 4, 5]
    assert [each.operation for each in shown] == ["overwrite", "delete", "merge", "merge", "drop or rename"]
    assert [each.rows for each in shown] == [300, 290, 290, 290, 290]
    assert "SHA256" in shown[2].columns_added
    assert shown[2].made_by["rows"] == "290"
    assert shown[3].made_by == {"expression": "number + 1", "job": "add-column X", "columns": "X"}
    assert shown[3].columns_added == shown[4].columns_removed == ("X",)
    assert shown[0].made_by == shown[4].made_by == {}
    assert datetime.datetime.fromisoformat(shown[0].timestamp).tzinfo is not None


def test_a_compaction_with_an_index_and_a_cleaned_history_are_listed(tmp_path: Path) -> None:
    make(tmp_path).create_scalar_index("number", "BTREE")
    lance.dataset(str(tmp_path)).optimize.compact_files(target_rows_per_fragment=1000)
    assert versions(str(tmp_path)).versions[-1].operation == "rewrite"

    lance.dataset(str(tmp_path)).cleanup_old_versions(older_than=datetime.timedelta(0))
    [last] = versions(str(tmp_path)).versions

    assert last.rows == 300


def test_a_limit_lists_the_latest_and_still_says_what_the_first_of_them_changed(tmp_path: Path) -> None:
    make(tmp_path)
    for name in "ABC":
        add_column(str(tmp_path), name, "1")

    shown = versions(str(tmp_path), limit=2).versions

    assert [(each.version, each.columns_added) for each in shown] == [(3, ("B",)), (4, ("C",))]
    assert len(versions(str(tmp_path), limit=10).versions) == 4


def test_names_and_pins_stay_in_a_folder_whose_name_an_address_would_escape(tmp_path: Path) -> None:
    uri = str(tmp_path / "数据 100%" / "a#b?c%20.lance")
    Path(uri).parent.mkdir()
    make(Path(uri), rows=3)

    tag(uri, [DigestLabel()])  # which pins the version that it reads
    versions(uri, tag="labelled")

    assert [each.name for each in tmp_path.iterdir()] == ["数据 100%"]
    assert [each.name for each in (tmp_path / "数据 100%").iterdir()] == ["a#b?c%20.lance"]
    assert versions(uri).versions[-1].names == ("labelled",)
    assert restore(uri, 1).version == 3


def test_a_named_version_is_restored_by_its_name(tmp_path: Path) -> None:
    make(tmp_path)
    named = versions(str(tmp_path), tag="before").versions
    add_column(str(tmp_path), "X", "1")

    report = restore(str(tmp_path), "before")

    assert named[0].names == ("before",)
    assert report.to_json() == {"uri": str(tmp_path), "version": 3, "version_before": 2, "restored": 1}
    assert lance.dataset(str(tmp_path)).schema.names == ["jpg", "number"]
    assert versions(str(tmp_path), tag="after").versions[-1].names == ("after",)


@pytest.mark.parametrize("name", ["before", "laketag-mine", "7", "a b/../c"])
def test_a_name_that_is_taken_or_means_something_else_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    versions(str(tmp_path), tag="before")
    versions(str(tmp_path), tag="before")
    add_column(str(tmp_path), "X", "1")

    with pytest.raises(DatasetError):
        versions(str(tmp_path), tag=name)

    assert set(lance.dataset(str(tmp_path)).tags.list()) == {"before"}


def test_restoring_what_is_there_makes_no_version(tmp_path: Path) -> None:
    make(tmp_path)
    add_column(str(tmp_path), "X", "1")
    restore(str(tmp_path), 1)

    again = [restore(str(tmp_path), version) for version in (3, 1, "1")]
    back = restore(str(tmp_path), 2)
    forth = restore(str(tmp_path), 3)

    assert [each.version for each in again] == [each.version_before for each in again] == [3, 3, 3]
    assert (back.version, forth.version, restore(str(tmp_path), 1).version) == (4, 5, 5)
    assert lance.dataset(str(tmp_path)).schema.names == ["jpg", "number"]


@pytest.mark.parametrize("storage", [PLAIN, Storage("binary", "2.0", False)], ids=str)
def test_what_came_after_a_restored_version_can_be_restored_too(tmp_path: Path, storage: Storage) -> None:
    make(tmp_path, storage=storage).delete("number < 100")
    restore(str(tmp_path), 1)
    lance.write_dataset(datasets.table(range(300, 310), storage), str(tmp_path), mode="append")

    report = restore(str(tmp_path), 2)

    assert report.version == 5
    assert lance.dataset(str(tmp_path)).count_rows() == 200


def test_a_version_that_is_not_there_is_refused_with_what_to_do(tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(DatasetError, match="`laketag versions` lists them"):
        restore(str(tmp_path), 7)
    with pytest.raises(DatasetError, match="no version is named 'nosuch'"):
        restore(str(tmp_path), "nosuch")
    with pytest.raises(DatasetNotFound):
        versions(str(tmp_path / "nowhere"))


@pytest.mark.slow
def test_columns_that_got_values_again_are_named(tmp_path: Path) -> None:
    make(tmp_path)
    tag(str(tmp_path), [DigestLabel()], rows=Rows(limit=10))
    tag(str(tmp_path), [DigestLabel()])

    first, second = versions(str(tmp_path)).versions[1:]

    assert (first.made_by["rows"], second.made_by["rows"]) == ("10", "290")
    assert first.columns_written == ()
    assert second.columns_written == ("SHA256", "SHA", "DIGESTLABEL_ERROR", "DIGESTLABEL_DIGEST")


def test_a_column_that_got_another_type_is_named(tmp_path: Path) -> None:
    make(tmp_path)
    cast_column(str(tmp_path), "number", "int32")

    [made, cast] = versions(str(tmp_path)).versions

    assert made.columns_written == ()
    assert (cast.columns_added, cast.columns_removed, cast.columns_written) == ((), (), ("number",))
