"""The column files of many fragments are made by processes of their own, and are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets import labels, make, right_label, staged_files
from fakes import DigestLabel
from here import tag
from laketag.engines.local import Local
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import ranges_of
from laketag.tagging import assembly
from laketag.tagging.joining import Joining, StagedFragment
from laketag.tagging.preparing import jobs_of
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import Index, Staging

ROWS, FRAGMENTS = 20, 10


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take four fragments for many; note what is handed to processes, in fragments."""
    handed: list[int] = []
    run = Local.run

    def note(self: Local, fn: Callable[[Any], Any], tasks: Sequence[Any], *rest: Any) -> Any:
        handed.extend(sum(map(len, groups)) for groups in tasks)
        return run(self, fn, tasks, *rest)

    monkeypatch.setattr(Local, "run", note)
    monkeypatch.setattr(assembly, "_MANY", 4)
    monkeypatch.setattr(assembly, "_BUNDLE", 3)
    monkeypatch.setattr(assembly, "cores", lambda: 2)
    return handed


@pytest.mark.slow
def test_labels_are_joined_by_other_processes_with_those_that_are_there(
    tmp_path: Path, bundles: list[int]
) -> None:
    make(tmp_path, ROWS * FRAGMENTS, rows_per_fragment=ROWS)
    told: list[tuple[int, int | None]] = []
    settings = TagSettings(
        chunk_rows=ROWS, progress=lambda p: told.append((p.done, p.total)) if p.note == "committing" else None
    )

    tag(str(tmp_path), [DigestLabel()], rows=Rows(where="number % 2 = 0"), settings=settings)
    report = tag(str(tmp_path), [DigestLabel()], settings=settings)

    assert bundles == [3, 3, 3, 1] * 2
    assert told == [*sorted(told[:4]), *sorted(told[4:])]
    assert told[3] == told[7] == (FRAGMENTS, FRAGMENTS)
    assert report.computed == ROWS * FRAGMENTS // 2
    assert labels(tmp_path) == {n: right_label(n) for n in range(ROWS * FRAGMENTS)}
    assert staged_files(tmp_path) == []


@pytest.mark.slow
def test_what_was_made_before_another_writer_came_is_kept(
    tmp_path: Path, bundles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import lance

    make(tmp_path, ROWS * FRAGMENTS, rows_per_fragment=ROWS)
    commit, waiting = lance.LanceDataset.commit, [FRAGMENTS]

    def late(*arguments: Any, **options: Any) -> Any:
        if waiting:
            waiting.pop()
            lance.dataset(str(tmp_path)).delete("number = 1")
        return commit(*arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", late)
    tag(str(tmp_path), [DigestLabel()], settings=TagSettings(chunk_rows=ROWS))

    assert bundles == [3, 3, 3, 1]  # nothing is made a second time
    assert labels(tmp_path) == {n: right_label(n) for n in range(ROWS * FRAGMENTS) if n != 1}


def test_where_one_fails_none_is_left(tmp_path: Path) -> None:
    make(tmp_path, ROWS * FRAGMENTS, rows_per_fragment=ROWS)
    settings = TagSettings(chunk_rows=ROWS, stage_only=True)
    tag(str(tmp_path), [DigestLabel()], settings=settings)
    location = Location.of(str(tmp_path))
    dataset = open_dataset(location)
    [job] = jobs_of(dataset.schema, [DigestLabel()], Rows(), settings).jobs
    staging = Staging(location, job.digest)
    index = Index.of(staging.parts())
    places = [
        StagedFragment((rows,), (tuple(index.over(rows)),), ()) for rows in ranges_of(dataset, job.reads)
    ]
    lost = replace(places[-1].staged[0][0], name="lost/chunk.20.0.1.lance")
    broken = replace(places[-1], staged=((lost,),))
    joining = Joining(location, dataset.version, dataset.data_storage_version, ((job, staging),), ((),))
    before = {file.name for file in (tmp_path / "data").iterdir()}

    with pytest.raises(ValueError, match="Not found"):
        joining([[place] for place in (*places[:-1], broken)])

    assert {file.name for file in (tmp_path / "data").iterdir()} == before
    assert len(joining([[place] for place in places])) == FRAGMENTS
