"""What people hand over in Python by habit: paths, one tagger, the name of one; and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import laketag
from fakes import DigestLabel
from here import Here
from laketag.errors import BadTagger, UnknownTagger, WrongUsage
from tars import sample, write_tar


def test_folders_and_files_are_given_as_paths(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", sample("a", {"n": 1}), sample("b", {"n": 2}))
    uri, here = tmp_path / "photos.lance", Here()

    laketag.import_([shard], uri, engine=here)
    laketag.tag(uri, DigestLabel(), engine=here)
    laketag.add_column(uri, "M", "n + 1")
    laketag.index(uri, "n")
    [batch] = laketag.query(uri, selection=laketag.Selection(columns=("M",)))
    laketag.export(uri, tmp_path / "out", engine=here)

    assert batch["M"].to_pylist() == [2, 3]
    assert laketag.show(uri).uri == str(uri)
    assert laketag.versions(uri).versions[-1].rows == 2
    assert laketag.diff(uri, 1, 2).rows_added == 0
    assert laketag.clean(uri).deleted is False
    assert laketag.report(uri, tmp_path / "labels.html").rows == 2
    assert laketag.restore(uri, 1).restored == 1
    assert (tmp_path / "out" / "000000.tar").exists()


def test_images_are_labelled_by_a_taggers_name() -> None:
    labels = laketag.predict("quality", [b"no image", None])

    assert labels["QUALITY_ERROR"].null_count == 0
    with pytest.raises(UnknownTagger, match="no tagger 'qualty'"):
        laketag.predict("qualty", [])


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: laketag.tag("photos.lance", []), WrongUsage, "no tagger is given"),
        (lambda: laketag.tag("photos.lance", [len]), BadTagger, "is not a tagger"),  # type: ignore[list-item]  # by mistake
        (lambda: laketag.tag("photos.lance", ["nsfw"], engine="ray"), WrongUsage, "engine is 'ray'"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.import_("a.tar", "photos.lance", engine=laketag.Local), WrongUsage, "Local"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.export("photos.lance", "out", engine=None), WrongUsage, "engine is None"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.adopt("photos.lance", "A", "nsfw", engine=2), WrongUsage, "engine is 2"),  # type: ignore[arg-type]  # by mistake
        (
            lambda: laketag.tag("photos.lance", "nsfw", rows="width > 1"),
            WrongUsage,
            r"rows is a str; give laketag.Rows",
        ),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.tag("photos.lance", "nsfw", settings=None), WrongUsage, r"settings is a NoneType"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.query("photos.lance", selection="width > 1"), WrongUsage, "give laketag.Selection"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.serve("photos.lance", address=8000), WrongUsage, "give laketag.Address"),  # type: ignore[arg-type]  # by mistake
        (lambda: laketag.Selection(columns="width"), WrongUsage, "give a tuple of names"),
        (lambda: laketag.ExportSettings(columns="width"), WrongUsage, "give a tuple of names"),
        (lambda: laketag.Selection(limit=-1), WrongUsage, "from 0 on"),
    ],
)
def test_what_makes_no_sense_is_said(call: Callable[[], object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call()
