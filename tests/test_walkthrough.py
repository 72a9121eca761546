from __future__ import annotations

import json
import shlex
import shutil
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

import laketag
from laketag import walkthrough


@pytest.mark.slow
def test_every_photograph_and_copy_is_a_row_and_what_is_damaged_says_why(shown: Any) -> None:
    report, output = shown.report, shown.output
    rows = [row for batch in laketag.query(report.uri) for row in batch.to_pylist()]

    assert len(rows) == 3 * len(walkthrough.PHOTOGRAPHS) + len(walkthrough.DAMAGED)
    failed = {row["__key__"]: row["QUALITY_ERROR"] for row in rows if row["QUALITY_ERROR"]}
    assert set(failed) == {f"damaged-{name}" for name in walkthrough.DAMAGED}
    assert all(reason in output for reason in failed.values())


@pytest.mark.slow
def test_labels_tell_blurred_and_darkened_copies_from_their_originals(shown: Any) -> None:
    rows = {row["__key__"]: row for batch in laketag.query(shown.report.uri) for row in batch.to_pylist()}

    for name in walkthrough.PHOTOGRAPHS:
        original = rows[f"{name}-original"]
        assert rows[f"{name}-blurred"]["SHARPNESS"] < original["SHARPNESS"]
        assert rows[f"{name}-darkened"]["BRIGHTNESS"] < original["BRIGHTNESS"] / 2


@pytest.mark.slow
def test_the_commands_are_printed_as_one_can_type_them(shown: Any) -> None:
    report, output = shown.report, shown.output

    assert [line.removeprefix("$ ") for line in output.splitlines() if line.startswith("$ ")] == list(
        report.commands
    )
    assert all(shlex.split(command)[0] == "laketag" for command in report.commands)
    assert json.loads(json.dumps(report.to_json()))["uri"] == report.uri


@pytest.mark.slow
def test_a_second_demo_replaces_the_first_only_while_nothing_was_added(
    shown: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(shown.report.folder, tmp_path / "demo")
    steps = walkthrough._steps  # of which the import is enough: it needs the place
    monkeypatch.setattr(walkthrough, "_steps", lambda *where: islice(steps(*where), 1))
    with (tmp_path / "output.txt").open("w") as out:
        report = laketag.demo(folder, out=out)
    replaced = laketag.show(report.uri)
    laketag.add_column(report.uri, "MINE", "width * 2")

    with pytest.raises(laketag.LaketagError, match=r"changed since the demo made it.*another folder"):
        laketag.demo(folder)

    assert (replaced.version, replaced.rows) == (1, laketag.show(shown.report.uri).rows)
    assert "MINE" in [column.name for column in laketag.show(report.uri).columns]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(laketag.LaketagError, match="did not make"):
        laketag.demo(tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_without_the_photographs_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)

    with pytest.raises(laketag.errors.MissingExtra, match=r"laketag\[demo\]"):
        laketag.demo(tmp_path / "demo")

    assert not (tmp_path / "demo").exists()
