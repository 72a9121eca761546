"""An export keeps its version from `clean` until it has come to its end, or is given up."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import laketag
from exports import export, imported, tars
from here import Here
from laketag import ExportSettings
from laketag.errors import Interrupted
from tars import sample

NOW = datetime.timedelta(0)


class BreaksOff(Here):
    """Is stopped after the first shard; before that, somebody else cleans the dataset."""

    def __init__(self, uri: str, *, shards: int = 1) -> None:
        self.uri = uri
        self.shards = shards
        self.cleaned: laketag.CleanReport | None = None

    def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Iterator[Any]:  # type: ignore[override]
        yield from map(fn, tasks[: self.shards])
        self.cleaned = laketag.clean(self.uri, older_than=NOW, yes=True)
        raise KeyboardInterrupt


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return imported(tmp_path, *(sample(f"{n}", {"n": n}) for n in range(6)))


def break_off(uri: str, out: Path, **more: Any) -> BreaksOff:
    """Begin an export, and commit a version, so that the export's is an old one."""
    engine = BreaksOff(uri, **more)
    version = lance.dataset(uri).version
    laketag.add_column(uri, f"V{version}", "1")
    settings = ExportSettings(samples_per_shard=2, at=version)
    with pytest.raises(Interrupted):
        laketag.export(uri, str(out), settings=settings, engine=engine)
    return engine


def pins(uri: str) -> dict[str, int]:
    return {name: tag["version"] for name, tag in lance.dataset(uri).tags.list().items()}


def leftovers(uri: str) -> list[str]:
    below = Path(uri, "_laketag")
    return sorted(each.name for each in below.iterdir() if each.name.startswith("export"))


def test_an_export_at_work_loses_nothing(tmp_path: Path, uri: str) -> None:
    cleaned = break_off(uri, tmp_path / "out").cleaned

    assert cleaned is not None
    assert (cleaned.versions, cleaned.pins) == (0, ())
    assert {each.reason for each in cleaned.kept} >= {"it runs"}


def test_an_export_that_broke_off_goes_on_after_a_cleaning_and_leaves_nothing(
    tmp_path: Path, uri: str
) -> None:
    break_off(uri, tmp_path / "out")
    for file in Path(uri, "_laketag").rglob("kept.lance"):
        os.utime(file, (time.time(), time.time() + 60))  # however slow this machine is, younger than versions
    young = laketag.clean(uri, older_than=datetime.timedelta(microseconds=1), yes=True)
    report = export(uri, tmp_path / "out", samples_per_shard=2)

    assert young.pins == ()
    assert (report.version, report.shards, report.shards_written) == (1, 3, 2)
    assert (pins(uri), leftovers(uri)) == ({}, [])


def test_an_export_that_began_anew_takes_over_what_held_the_version_of_the_first(
    tmp_path: Path, uri: str
) -> None:
    break_off(uri, tmp_path / "out", shards=0)
    held = pins(uri)
    break_off(uri, tmp_path / "out", shards=0)
    moved = pins(uri)
    export(uri, tmp_path / "out", samples_per_shard=2)

    assert list(held.values()) == [1]
    assert moved == dict.fromkeys(held, 2)
    assert (pins(uri), leftovers(uri)) == ({}, [])


def test_an_export_that_is_given_up_holds_nothing(tmp_path: Path, uri: str) -> None:
    break_off(uri, tmp_path / "out")

    report = laketag.clean(uri, older_than=NOW, yes=True)

    assert (len(report.pins), report.versions) == (1, 1)
    assert (pins(uri), leftovers(uri)) == ({}, [])


def test_exports_of_the_same_rows_to_two_places_do_not_wait_for_each_other(tmp_path: Path, uri: str) -> None:
    class Meanwhile(Here):
        def run(self, fn: Any, tasks: Sequence[Any], tell: Any = None) -> Iterator[Any]:  # type: ignore[override]
            export(uri, tmp_path / "other")
            held.update(pins(uri))
            yield from map(fn, tasks)

    held: dict[str, int] = {}
    laketag.export(uri, f"{tmp_path}/out/{{000000..}}.tar", engine=Meanwhile())

    assert list(held.values()) == [1]
    assert tars(tmp_path / "out")[0].read_bytes() == tars(tmp_path / "other")[0].read_bytes()
    assert (pins(uri), leftovers(uri)) == ({}, [])


def test_a_dataset_that_cannot_be_written_to_is_exported(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"jpg": [b"1", b"2"]}), str(tmp_path / "dataset"))
    (tmp_path / "dataset" / "_refs").write_bytes(b"no folder, so that no tag can be made")

    export(str(tmp_path / "dataset"), tmp_path / "out")

    assert len(tars(tmp_path / "out")) == 1
    assert not list((tmp_path / "dataset").glob("_laketag/*"))
