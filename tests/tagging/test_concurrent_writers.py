"""Others write at every step of the line: both sides' work is there afterwards, and nothing is done twice."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import writers
from datasets import staged_files
from fakes import ByteLength, CountingTagger, RaisesOn, predicted, sha_of
from laketag.errors import JobRefused, LaketagError
from laketag.tagging.report import TagReport
from laketag.tagging.run import tag
from laketag.tagging.settings import Rows, TagSettings
from writers import POINTLESS, WRITES, Write

pytestmark = pytest.mark.slow
SETTINGS = TagSettings(chunk_rows=10, threads=1)
Meddle = Callable[[], object]


@dataclass(frozen=True)
class Here:
    """An engine in this process, for speed, with another writer at work after the n-th result."""

    meddle: Meddle = lambda: None
    after: int = 0

    def run(self, fn: Callable[[Any], Any], tasks: Sequence[Any], tell: Any = None) -> Iterator[Any]:
        for number, task in enumerate(tasks):
            result = fn(task)
            if number == (self.after or len(tasks)) - 1:
                self.meddle()
            yield result


@dataclass(frozen=True)
class Line:
    """A dataset, and a tagger that counts what it predicts."""

    uri: str
    counted: Path
    patch: pytest.MonkeyPatch

    def tag(self, engine: Here = Here(), *, stage_only: bool = False) -> TagReport:
        settings = TagSettings(chunk_rows=10, threads=1, stage_only=stage_only)
        return tag(self.uri, [CountingTagger(str(self.counted))], settings=settings, engine=engine)

    def images(self) -> list[bytes]:
        images: list[bytes] = lance.dataset(self.uri).to_table(columns=["jpg"])["jpg"].to_pylist()
        return images

    def labels(self) -> dict[bytes, int | None]:
        """Read every image's label."""
        dataset = lance.dataset(self.uri)
        if "SHA" not in dataset.schema.names:
            return dict.fromkeys(self.images())
        found = dataset.to_table(columns=["jpg", "SHA"])
        return dict(zip(found["jpg"].to_pylist(), found["SHA"].to_pylist(), strict=True))

    def predicted_twice(self) -> set[int]:
        return {label for label, times in Counter(predicted(self.counted)).items() if times > 1}


def after_a_run(line: Line, write: Meddle) -> TagReport:
    line.tag()
    write()
    return line.tag()


def after_staging_alone(line: Line, write: Meddle) -> TagReport:
    line.tag(stage_only=True)
    write()
    return line.tag()


def during_compute(line: Line, write: Meddle) -> TagReport:
    return line.tag(Here(write, after=2))


def before_the_commit(line: Line, write: Meddle) -> TagReport:
    return line.tag(Here(write))


def between_read_and_commit(line: Line, write: Meddle) -> TagReport:
    """The very first call of Lance's commit comes too late: the other writer is quicker."""
    commit = lance.LanceDataset.commit
    waiting = [write]

    def late(*arguments: Any, **options: Any) -> Any:
        if waiting:
            waiting.pop()()
        return commit(*arguments, **options)

    line.patch.setattr(lance.LanceDataset, "commit", late)
    return line.tag()


Step = Callable[[Line, Meddle], TagReport]
STEPS: list[Step] = [
    *(after_a_run, after_staging_alone),
    *(during_compute, before_the_commit, between_read_and_commit),
]


def cases() -> Iterator[Any]:
    """Give half of all combinations: every three of write, step, row ids and columns are there together."""
    for (number, write), (place, step) in itertools.product(enumerate(WRITES), enumerate(STEPS)):
        for is_stable, is_begun in itertools.product((True, False), (False, True)):
            if (number + place + is_stable + is_begun) % 2:
                ids, columns = "stable" if is_stable else "unstable", "existing" if is_begun else "new"
                is_fast = is_stable and not is_begun and step is between_read_and_commit
                marks = [] if is_fast else [pytest.mark.slow]
                name = f"{ids}-{columns}-{write}-{step.__name__}"
                yield pytest.param(is_stable, is_begun, write, step, id=name, marks=marks)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """Make the dataset once of each kind; read it only."""
    folder = tmp_path_factory.mktemp("made")

    def make(is_stable: bool) -> Path:
        name = folder / str(is_stable)
        return name if name.exists() else Path(writers.make(name, stable_row_ids=is_stable))

    return make


@pytest.fixture(scope="module")
def alone(
    made: Callable[[bool], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Write], object]:
    """Read what a write leaves where nobody tags."""
    found: dict[str, object] = {}

    def read(write: Write) -> object:
        if str(write) not in found:
            uri = str(shutil.copytree(made(True), tmp_path_factory.mktemp("alone") / "data"))
            write.do(uri)
            found[str(write)] = writers.theirs(uri)
        return found[str(write)]

    return read


@pytest.fixture(
    params=[pytest.param(True, id="stable"), pytest.param(False, id="unstable", marks=pytest.mark.slow)]
)
def line(
    request: pytest.FixtureRequest,
    made: Callable[[bool], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Line:
    counted = tmp_path / "counted"
    counted.mkdir()
    return Line(str(shutil.copytree(made(request.param), tmp_path / "data")), counted, monkeypatch)


@pytest.mark.parametrize(("line", "is_begun", "write", "step"), list(cases()), indirect=["line"])
def test_both_sides_work_is_kept_and_no_image_is_predicted_twice(
    line: Line, is_begun: bool, write: Write, step: Step, alone: Callable[[Write], object]
) -> None:
    if is_begun:  # some rows have labels already, so that the columns are there
        tag(line.uri, [CountingTagger(str(line.counted))], rows=Rows(limit=18), engine=Here())
    old = set(line.images())
    undone = {image for image, label in line.labels().items() if label} if write.takes_labels else set()
    step(line, lambda: write.do(line.uri))
    first = line.labels()
    again = line.tag()

    new = first.keys() - old
    open_ = set() if step in STEPS[:2] else new | undone
    assert {image for image, label in first.items() if label != sha_of(image)} == open_
    assert is_begun or {first[image] for image in open_} <= {None}
    assert line.labels() == {image: sha_of(image) for image in first}
    undone |= old if write.takes_labels and step is after_a_run else set()
    assert line.predicted_twice() <= {sha_of(image) for image in undone}
    assert line.tag().version_after == again.version_after
    assert writers.theirs(line.uri) == alone(write)
    assert staged_files(Path(line.uri)) == []


@pytest.mark.parametrize("step", STEPS[2:], ids=lambda step: step.__name__)
@pytest.mark.parametrize("write", POINTLESS, ids=str)
def test_a_run_made_pointless_ends_in_one_line_and_its_work_is_kept(
    line: Line, write: Write, step: Step
) -> None:
    before = lance.dataset(line.uri).version

    with pytest.raises(LaketagError, match=write.ends) as raised:
        step(line, lambda: write.do(line.uri))

    assert "\n" not in str(raised.value)
    lance.dataset(line.uri, version=before).restore()
    line.tag()
    assert line.labels() == {image: sha_of(image) for image in line.images()}
    assert line.predicted_twice() == set()


def test_staged_labels_that_fit_no_row_stop_no_later_run(line: Line) -> None:
    line.tag()
    writers.append(line.uri)
    line.tag(stage_only=True)
    lance.dataset(line.uri).delete("number >= 60")
    writers.update_another_column(line.uri)  # rows to look at, and none to label
    version = lance.dataset(line.uri).version

    report = line.tag()

    assert (report.computed, report.version_after) == (0, version)
    assert line.labels() == {image: sha_of(image) for image in line.images()}


def test_what_is_staged_after_a_compaction_was_followed_is_followed_as_well(tmp_path: Path) -> None:
    """As a slice does that began before the compaction, while another one began after it."""
    uri, counted = writers.make(tmp_path / "data", stable_row_ids=True), tmp_path / "counted"
    counted.mkdir()
    tagger, staging = CountingTagger(str(counted)), TagSettings(stage_only=True)
    first, second = Rows(where="number < 20"), Rows(where="number >= 20")

    tag(uri, [tagger], engine=Here(), rows=first, settings=staging)
    writers.compact(uri)
    compacted = lance.dataset(uri).version
    tag(uri, [tagger], engine=Here(), rows=first, settings=staging)
    lance.dataset(uri, version=2).restore()
    tag(uri, [tagger], engine=Here(), rows=second, settings=staging)
    lance.dataset(uri, version=compacted).restore()
    tag(uri, [tagger], engine=Here())

    assert lance.dataset(uri).count_rows("SHA is null") == 0
    assert len(predicted(counted)) == 59


def test_staged_labels_outlast_a_compaction_after_which_old_versions_are_cleaned_away(line: Line) -> None:
    line.tag(stage_only=True)
    writers.compact(line.uri)
    lance.dataset(line.uri).cleanup_old_versions(timedelta(0))

    report = line.tag()

    assert report.computed == 0
    assert line.labels() == {image: sha_of(image) for image in line.images()}
    assert line.predicted_twice() == set()


def test_what_was_staged_after_an_update_is_found_again_when_a_restore_undoes_the_update(line: Line) -> None:
    before = lance.dataset(line.uri).version
    writers.update_another_column(line.uri)
    line.tag(stage_only=True)
    lance.dataset(line.uri, version=before).restore()

    report = line.tag()

    assert report.computed == 0
    assert line.labels() == {image: sha_of(image) for image in line.images()}
    assert staged_files(Path(line.uri)) == []


def test_a_run_with_new_columns_and_old_ones_is_made_pointless_in_one_line(line: Line) -> None:
    line.tag()
    taggers = [CountingTagger(str(line.counted)), ByteLength()]
    engine = Here(lambda: writers.delete_everything(line.uri))

    with pytest.raises(LaketagError, match="that was tagged is gone"):
        tag(line.uri, taggers, settings=SETTINGS, engine=engine)


def test_a_label_column_that_is_dropped_during_a_run_does_not_come_back_without_its_labels(
    line: Line,
) -> None:
    tag(line.uri, [CountingTagger(str(line.counted))], rows=Rows(limit=18), engine=Here())

    with pytest.raises(JobRefused, match="SHA went away"):
        line.tag(Here(lambda: lance.dataset(line.uri).drop_columns(["SHA"])))

    assert "SHA" not in lance.dataset(line.uri).schema.names


def test_a_label_of_an_image_that_failed_in_another_row_moves_along(tmp_path: Path) -> None:
    uri, tagger = str(tmp_path / "data"), RaisesOn(nth=2, folder=str(tmp_path), batch_size=1)
    lance.write_dataset(pa.table({"jpg": pa.array([b"alike"] * 2, pa.binary()), "number": [0, 1]}), uri)
    tag(uri, [tagger], settings=TagSettings(stage_only=True), engine=Here())
    lance.dataset(uri).update({"number": "number + 1"})

    report = tag(uri, [tagger], engine=Here())

    assert (report.computed, report.failed) == (0, 0)
    assert lance.dataset(uri).to_table(columns=["BYTES"])["BYTES"].to_pylist() == [5, 5]
