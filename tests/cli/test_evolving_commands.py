"""Columns, history, indexes and cleaning, as people type them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lance
import pytest

from programs import Program

pytestmark = pytest.mark.slow

TAG = "case when width >= 300 then 'wide' else 'narrow' end"


@pytest.fixture
def uri(tagged: Path, tmp_path: Path) -> Path:
    """A dataset with labels that a test may change."""
    copy = tmp_path / "labelled.lance"
    shutil.copytree(tagged, copy)
    return copy


def shown(program: Program, *arguments: str | Path) -> dict[str, object]:
    done = program(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report: dict[str, object] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(
    "words",
    [
        ("add-column", "TAG", TAG),
        ("drop-column", "SHARPNESS"),
        ("rename-column", "SHARPNESS", "OLD_SHARPNESS"),
        ("cast-column", "SHARPNESS", "float64"),
    ],
)
def test_a_changed_schema_has_the_keys_of_the_contract(
    program: Program, uri: Path, words: tuple[str, ...]
) -> None:
    version = lance.dataset(str(uri)).version

    report = shown(program, words[0], uri, *words[1:])

    assert set(report) >= {"uri", "version", "columns"}
    assert report["version"] in (version + 1, version + 2)
    assert report["columns"] == lance.dataset(str(uri)).schema.names


def test_labels_are_derived_again_and_the_difference_is_a_table(program: Program, uri: Path) -> None:
    first = program("add-column", uri, "TAG", TAG)
    named = program("versions", uri, "--tag", "first")
    again = program("add-column", uri, "TAG", "'none'")
    program("add-column", uri, "TAG", TAG.replace("300", "500"), "--replace")
    latest = lance.dataset(str(uri)).version
    told = program("diff", uri, "first", latest)

    assert first.returncode == 0, first.stderr
    assert "column TAG has its values" in first.stdout
    assert "+TAG" in named.stdout
    assert again.returncode == 1
    assert "--replace" in again.stderr
    assert "labels   TAG: 2 of 6 rows moved" in told.stdout
    assert ["wide", "narrow", "2"] in [line.split() for line in told.stdout.splitlines()]
    assert "SHARPNESS, " in told.stdout
    assert "none moved" in told.stdout
    assert shown(program, "diff", uri, "first", str(latest))["rows_added"] == 0


def test_what_sql_made_is_shown(program: Program, uri: Path) -> None:
    program("add-column", uri, "TAG", TAG)
    program("add-column", uri, "TWICE", "SHARPNESS * 2")

    told = program("show", uri).stdout

    assert f"TAG: sql {TAG}" in told
    assert "TWICE: sql SHARPNESS * 2" in told
    assert "quality: " in told


def test_a_wrong_expression_and_a_wrong_column_are_one_line(program: Program, uri: Path) -> None:
    for words in [
        ("add-column", uri, "TAG", "nosuch + 1"),
        ("add-column", uri, "tag ", "1) , (2"),
        ("drop-column", uri, "nosuch"),
        ("rename-column", uri, "SHARPNESS", "Width"),
        ("cast-column", uri, "SHARPNESS", "string"),
        ("restore", uri, "99"),
        ("diff", uri, "1", "nosuch"),
        ("index", uri, "jpg"),
        ("versions", uri, "--tag", "7"),
    ]:
        done = program(*words)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), (words, done.stderr)


def test_versions_say_who_and_a_restore_goes_back(program: Program, uri: Path) -> None:
    before = lance.dataset(str(uri)).version
    program("drop-column", uri, "SHARPNESS")

    listed = shown(program, "versions", uri)["versions"]
    done = program("restore", uri, str(before))
    again = program("restore", uri, str(before))
    latest = program("restore", uri, str(before + 2))

    assert isinstance(listed, list)
    assert any(each["made_by"].get("taggers") == "quality" for each in listed)
    assert listed[-1]["columns_removed"] == ["SHARPNESS"]
    assert f"version {before + 2} is what version {before} was" in done.stdout
    assert f"nothing to do, version {before + 2} is what version {before} was" in again.stdout
    assert f"nothing to do, version {before + 2} is the latest" in latest.stdout
    assert len(program("versions", uri, "--limit", "2").stdout.splitlines()) == 3


def test_an_index_is_built(program: Program, uri: Path) -> None:
    told = program("index", uri, "SHARPNESS")
    report = shown(program, "index", uri, "txt", "--kind", "text")

    assert "btree index on SHARPNESS: 6 rows" in told.stdout
    assert (report["column"], report["kind"]) == ("txt", "text")


def test_clean_deletes_only_when_told_to(program: Program, uri: Path) -> None:
    program("drop-column", uri, "SHARPNESS")
    latest = lance.dataset(str(uri)).version

    assert program("clean", uri, "--older-than", "999999999d").returncode == 0
    said = program("clean", uri, "--older-than", "0")
    assert lance.dataset(str(uri), version=1).count_rows() == 6
    report = shown(program, "clean", uri, "--older-than", "0", "--yes")

    assert f"would delete  {latest - 1} old versions" in said.stdout
    assert "--yes" in said.stdout
    assert (report["deleted"], report["versions"]) == (True, latest - 1)
    assert program("query", uri).returncode == 0


@pytest.mark.parametrize("age", ["14", "d", "-1d", "two weeks", "9999999999d"])
def test_an_age_without_a_unit_is_wrong_usage(program: Program, uri: Path, age: str) -> None:
    assert program("clean", uri, f"--older-than={age}").returncode == 2
