"""The whole line on an object store: what works on a folder works there."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import lance
import pytest

import laketag
from fakes import ByteLength, CountingTagger, DigestLabel, ReturnsNaN, predicted, sha_of
from laketag.errors import DatasetNotFound, JobRefused
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.lake.staged import StagedFiles
from programs import environment, picture, run
from servers import Store, flags
from tars import sample, write_tar

pytestmark = pytest.mark.slow


def shards(folder: Path, number: int = 2, samples: int = 30, prefix: str = "") -> str:
    for i in range(number):
        each = [sample(f"{prefix}{i}-{j}", {"n": j}) for j in range(samples)]
        write_tar(folder / f"{prefix}{i}.tar", *each)
    return str(folder)


def made(tmp_path: Path, store: Store, uri: str, **options: int) -> lance.LanceDataset:
    laketag.import_([shards(tmp_path / "shards", **options)], uri, storage_options=store.options)
    return opened(store, uri)


def opened(store: Store, uri: str) -> lance.LanceDataset:
    return lance.dataset(uri, storage_options=store.options)


def column(store: Store, uri: str, name: str) -> list[object]:
    return opened(store, uri).to_table(columns=[name])[name].to_pylist()


def test_the_line_from_the_command_line(tmp_path, store, uri):
    write_tar(
        tmp_path / "a.tar", *([(f"{i}.jpg", picture(i)), (f"{i}.json", b'{"n": 1}')] for i in range(20))
    )
    options = flags("-o", store.options)

    assert run("import", tmp_path / "a.tar", uri, *options).returncode == 0
    tagged = json.loads(run("tag", uri, "--with", "quality", "--json", *options).stdout)
    rows = run("query", uri, "--where", "IMAGE_WIDTH = 16", "--columns", "__key__", "--json", *options).stdout
    shown = json.loads(run("show", uri, "--json", *options).stdout)
    history = json.loads(run("versions", uri, "--json", *options).stdout)
    assert run("add-column", uri, "twice", "IMAGE_WIDTH * 2", *options).returncode == 0
    assert run("index", uri, "n", *options).returncode == 0
    assert run("restore", uri, "2", *options).returncode == 0

    assert tagged["computed"] == 20
    assert len(rows.splitlines()) == 20
    assert (shown["rows"], shown["version"]) == (20, 2)
    assert [each["operation"] for each in history["versions"]] == ["overwrite", "merge"]
    assert "twice" not in opened(store, uri).schema.names
    opened(store, uri).validate()


def test_there_is_nothing_at_a_place_that_nothing_was_written_to(store, uri):
    with pytest.raises(DatasetNotFound, match="no Lance dataset at s3://"):
        laketag.show(uri, storage_options=store.options)


def test_an_import_that_failed_goes_on_from_what_is_staged(tmp_path, store, uri, monkeypatch):
    monkeypatch.setattr("laketag.shards.plan.TASK_BYTES", 1)
    folder = shards(tmp_path / "shards", 3)
    settings = laketag.ImportSettings()
    broken = tmp_path / "shards" / "2.tar"
    whole = broken.read_bytes()
    broken.chmod(0)
    stopped = StopsAfter(2)
    with pytest.raises(Stop):
        laketag.import_([folder], uri, storage_options=store.options, settings=settings, engine=stopped)
    assert not opened_or_none(store, uri)
    staged = StagedFiles(Location.of(uri, store.options), "").names()
    broken.chmod(0o644)

    report = laketag.import_([folder], uri, storage_options=store.options, settings=settings)

    assert len([name for name in staged if "/record-" in name]) == 2
    assert report.bytes_read == len(whole)
    assert len(set(column(store, uri, "__key__"))) == opened(store, uri).count_rows() == 90


class Stop(Exception):
    pass


class StopsAfter:
    """An engine that ends the run after so many tasks."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks

    def run(self, fn, tasks, tell=None):
        for number, task in enumerate(tasks):
            if number == self.tasks:
                raise Stop
            yield fn(task)


def opened_or_none(store: Store, uri: str) -> lance.LanceDataset | None:
    try:
        return opened(store, uri)
    except ValueError:
        return None


def test_shards_are_appended_and_a_repeated_import_adds_nothing(tmp_path, store, uri):
    made(tmp_path, store, uri)
    more = shards(tmp_path / "more", prefix="new")
    settings = laketag.ImportSettings(append=True)

    first = laketag.import_([more], uri, storage_options=store.options, settings=settings)
    again = laketag.import_([more], uri, storage_options=store.options, settings=settings)

    assert (first.rows_added, again.rows_added) == (60, 0)
    assert opened(store, uri).count_rows() == 120


def test_a_run_that_fails_in_mid_way_computes_nothing_twice(tmp_path, store, uri):
    made(tmp_path, store, uri, samples=100)
    tagger = CountingTagger(str(tmp_path), batch_size=8)
    settings = laketag.TagSettings(chunk_rows=16)
    with pytest.raises(Stop):
        laketag.tag(uri, [tagger], storage_options=store.options, settings=settings, engine=StopsAfter(1))
    staged = StagedFiles(Location.of(uri, store.options), "").names()

    report = laketag.tag(uri, [tagger], storage_options=store.options, settings=settings)

    assert staged or report.computed == 200
    images = column(store, uri, "jpg")
    assert sorted(predicted(tmp_path)) == sorted(sha_of(image) for image in images)
    assert column(store, uri, "SHA") == [sha_of(image) for image in images]


PROGRAM = f"""
import sys
sys.path[:0] = {sys.path!r}
import json, laketag
from fakes import CountingTagger
print("ready", flush=True)
laketag.tag(sys.argv[1], [CountingTagger(sys.argv[2], 0.05, 8)], storage_options=json.loads(sys.argv[3]),
    settings=laketag.TagSettings(chunk_rows=16), engine=laketag.Local(1))
"""


def test_a_killed_run_goes_on_from_its_staged_chunks(tmp_path, store, uri):
    made(tmp_path, store, uri, samples=100)
    command = [sys.executable, "-c", PROGRAM, uri, str(tmp_path), json.dumps(store.options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    with process:
        wait_for(lambda: len(predicted(tmp_path)) >= 64)
        process.kill()
    before = len(predicted(tmp_path))
    time.sleep(1.0)  # its worker sees that its driver is gone

    report = laketag.tag(
        uri,
        [CountingTagger(str(tmp_path), batch_size=8)],
        storage_options=store.options,
        settings=laketag.TagSettings(chunk_rows=16),
    )

    images = column(store, uri, "jpg")
    assert column(store, uri, "SHA") == [sha_of(image) for image in images]
    assert before < 200
    assert report.computed < 200
    # What was being predicted when it was killed, and the chunk after it, may be done once more.
    assert len(predicted(tmp_path)) <= 200 + 3 * 16


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_run_of_a_job_works_at_a_time(tmp_path, store, uri):
    made(tmp_path, store, uri)
    location = Location.of(uri, store.options)

    with (
        leased(location, "work", "the job"),
        pytest.raises(JobRefused, match="the job is at work"),
        leased(location, "work", "the job"),
    ):
        pass

    assert StagedFiles(location, "work/lease").names() == []


def test_clean_deletes_what_a_broken_run_left(tmp_path, store, uri):
    made(tmp_path, store, uri)
    location = Location.of(uri, store.options)
    StagedFiles(location, "0123abcd").write("left.lance", opened(store, uri).to_table(columns=["n"]))

    young = laketag.clean(uri, storage_options=store.options, yes=True)
    old = laketag.clean(uri, storage_options=store.options, older_than=timedelta(0), yes=True)

    assert young.staged == ()
    assert next(each.reason for each in young.kept if each.name == "0123abcd").startswith("staged 0:0")
    assert [each.job for each in old.staged] == ["0123abcd"]
    assert StagedFiles(location, "0123abcd").names() == []
    opened(store, uri).validate()


def test_four_taggers_and_two_appenders_at_once_lose_nothing(tmp_path, store, uri):
    made(tmp_path, store, uri, samples=50)
    taggers = [ByteLength(), DigestLabel(), ReturnsNaN(b"none"), laketag.find_tagger("quality")]
    failing = laketag.TagSettings(max_error_rate=1.0)  # the rows are no images
    more = [shards(tmp_path / name, prefix=name) for name in ("left", "right")]

    def tag(tagger: laketag.Tagger) -> None:
        laketag.tag(uri, [tagger], storage_options=store.options, settings=failing)

    def append(folder: str) -> None:
        settings = laketag.ImportSettings(append=True)
        laketag.import_([folder], uri, storage_options=store.options, settings=settings)

    at_once([*(lambda t=t: tag(t) for t in taggers), *(lambda f=f: append(f) for f in more)])
    raced = opened(store, uri)
    raced.validate()
    assert raced.count_rows() == 100 + 60 + 60
    laketag.tag(uri, taggers, storage_options=store.options, settings=failing)

    labels = ["BYTES", "SHA", "SCORE", "QUALITY_ERROR"]
    rows = opened(store, uri).to_table(columns=["__key__", "jpg", *labels]).to_pylist()
    assert len({row["__key__"] for row in rows}) == len(rows) == 220
    for row in rows:
        image = row["jpg"]
        assert (row["BYTES"], row["SHA"], row["SCORE"]) == (len(image), sha_of(image), len(image))
        assert row["QUALITY_ERROR"] == "not an image"


def at_once(actions: Sequence[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(len(actions)) as pool:
        for future in [pool.submit(action) for action in actions]:
            future.result()
