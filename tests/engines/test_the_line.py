"""The line on every engine: the same labels, whoever dies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import places
from datasets import labels, make, right_label
from fakes import AbortsOn, CountingTagger, DigestLabel, predicted
from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from laketag.shards.importing import import_
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings
from programs import environment, picture, write_shard

ROWS, CHUNK, WORKERS = 2000, 100, 2
KILLED = """
import sys
sys.path[:0] = {path!r}
from fakes import CountingTagger
from laketag import Ray, Spark, TagSettings, tag
if __name__ == "__main__":
    settings = TagSettings(chunk_rows={chunk})
    tag(sys.argv[1], [CountingTagger(sys.argv[2], 0.05)], settings=settings, engine={engine})
"""


SETTINGS = TagSettings(chunk_rows=8, batch_size=4)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("shards")
    for number in range(3):
        keys = range(number * 20, number * 20 + 20)
        samples = {f"{key:04}": {"jpg": picture(key), "json": b'{"key": %d}' % key} for key in keys}
        write_shard(folder / f"{number}.tar", samples)
    return [str(folder / f"{number}.tar") for number in range(3)]


@pytest.fixture(scope="session")
def here(shards: list[str], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """What one local worker makes."""
    return made(shards, tmp_path_factory.mktemp("here") / "d", Local())


def made(shards: list[str], folder: Path, engine: Engine) -> pa.Table:
    import_(shards, str(folder), engine=engine)
    tag(str(folder), ["quality"], settings=SETTINGS, engine=engine)
    return lance.dataset(str(folder)).to_table()


@pytest.mark.slow
def test_import_and_tag_give_the_same_bits_as_one_local_worker(
    engine: Engine, shards: list[str], here: pa.Table, tmp_path: Path
) -> None:
    there = made(shards, tmp_path / "d", engine)

    assert there.num_rows == 60
    assert there.equals(here)


@pytest.mark.slow
def test_a_dataset_made_anew_at_its_place_is_read_by_workers_that_have_read_the_old_one(
    engine: Engine, tmp_path: Path
) -> None:
    for rows in (20, 30):
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        make(tmp_path / "d", rows)

        tag(str(tmp_path / "d"), [DigestLabel()], engine=engine)

        assert labels(tmp_path / "d") == {number: right_label(number) for number in range(rows)}


@pytest.mark.slow
def test_an_image_that_aborts_its_process_costs_one_row_of_hundreds(engine: Engine, tmp_path: Path) -> None:
    make(tmp_path / "d", 200, rows_per_fragment=100)
    settings = TagSettings(chunk_rows=4, batch_size=2)

    report = tag(str(tmp_path / "d"), [AbortsOn(b"image 122 ")], settings=settings, engine=engine)

    rows = (
        lance.dataset(str(tmp_path / "d")).to_table(columns=["number", "BYTES", "ABORTS_ERROR"]).to_pylist()
    )
    assert [row["number"] for row in rows if row["BYTES"] is None] == [122]
    assert [row["ABORTS_ERROR"] for row in rows if row["ABORTS_ERROR"]] == ["the worker died (SIGABRT)"]
    assert (report.computed, report.skipped, report.failed) == (200, 0, 1)
    assert "SIGABRT" in report.errors[0].reason


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["Ray(2)", "Spark(1, cpus=2)"])
def test_a_job_whose_driver_is_killed_is_finished_by_another_engine(killed: str, tmp_path: Path) -> None:
    places.require_ray() if "Ray" in killed else places.require_spark()
    folder, counted = tmp_path / "data", tmp_path / "counted"
    counted.mkdir()
    make(folder, ROWS, rows_per_fragment=700)
    program = KILLED.format(path=sys.path, chunk=CHUNK, engine=killed)
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder), str(counted)], env=environment(), stderr=subprocess.PIPE
    )
    _wait_until(lambda: len(predicted(counted)) > 3 * CHUNK, process)
    process.kill()
    process.communicate()
    _wait_until_nobody_predicts(counted)

    assert lance.dataset(str(folder)).schema.names == ["jpg", "number"]
    before = len(predicted(counted))
    tag(str(folder), [CountingTagger(str(counted))], settings=TagSettings(chunk_rows=CHUNK), engine=Local(2))

    assert lance.dataset(str(folder)).count_rows("SHA is null") == 0
    assert before < ROWS
    assert len(predicted(counted)) <= ROWS + 2 * CHUNK * WORKERS


def _wait_until(is_true, process: subprocess.Popen[bytes]) -> None:  # type: ignore[no-untyped-def]  # a test's
    deadline = time.monotonic() + 180
    while not is_true():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _wait_until_nobody_predicts(counted: Path) -> None:
    """Workers end within seconds of their driver; what they count until then counts."""
    deadline = time.monotonic() + 60
    pids = {int(path.name.split("-")[1]) for path in counted.iterdir()}
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
