"""A store that fails for a while: whatever it was that failed, the run ends right, in one version."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import lance
import pytest

import laketag
from fakes import DigestLabel, sha256_of
from here import Here
from programs import environment, run
from proxy import KINDS, Proxy, proxied
from servers import BUCKET, Store, client, flags, options
from tars import tar_bytes

pytestmark = pytest.mark.slow

STEPS = {
    "reading shards": rb"GET \S*/a\.tar",
    "writing rows": rb"(PUT|POST) \S*/data/",
    "staging an import": rb"PUT \S*/_laketag/import-",
    "committing an import": rb"PUT \S*/dataset/_versions/",
}
TAGGING = {
    "reading images": rb"GET \S*/data/",
    "staging labels": rb"PUT \S*/_laketag/[0-9a-f]{32}/",
    "writing labels": rb"PUT \S*/data/",
    "committing labels": rb"PUT \S*/dataset/_versions/",
}
ROWS = 60


def put_shard(store: Store, uri: str) -> str:
    body = tar_bytes([(f"{i}.jpg", b"picture %d" % i * 200) for i in range(ROWS)])
    place = uri.replace("/dataset", "/a.tar")
    client(store).put_object(Bucket=BUCKET, Key=place.removeprefix(f"s3://{BUCKET}/"), Body=body)
    return place


def through(proxy: Proxy) -> dict[str, str]:
    # A request that hangs is given up soon, so that the tests are.
    return options(proxy.endpoint) | {"timeout": "2s"}


def check(store: Store, uri: str, version: int, *, labelled: bool) -> None:
    dataset = lance.dataset(uri, storage_options=store.options)
    dataset.validate()
    rows = dataset.to_table().to_pylist()
    assert dataset.version == version
    assert sorted(int(row["__key__"]) for row in rows) == list(range(ROWS))
    if labelled:
        assert [row["SHA256"] for row in rows] == [sha256_of(row["jpg"]) for row in rows]


def imported(store: Store, uri: str) -> None:
    laketag.import_([put_shard(store, uri)], uri, storage_options=store.options, engine=Here())


def import_through(proxy: Proxy, store: Store, uri: str) -> None:
    laketag.import_([put_shard(store, uri)], uri, storage_options=through(proxy), engine=Here())


def tag_through(proxy: Proxy, store: Store, uri: str) -> None:
    settings = laketag.TagSettings(chunk_rows=20)
    tagger = DigestLabel(batch_size=5)
    laketag.tag(uri, [tagger], storage_options=through(proxy), settings=settings, engine=Here())


def fail_in_each_step(store: Store, uri: str, kind: str, seconds: float) -> None:
    """Run an import or a tag for each step, at once, each with its own store that fails there."""

    def importing(step: str) -> None:
        place = uri.replace("/dataset", f"/{step.replace(' ', '-')}/dataset")
        with proxied(store.port) as proxy:
            proxy.fail(kind, STEPS[step], seconds)
            import_through(proxy, store, place)
            assert proxy.failed, step
        check(store, place, 1, labelled=False)

    def tagging(step: str) -> None:
        place = uri.replace("/dataset", f"/{step.replace(' ', '-')}/dataset")
        imported(store, place)
        with proxied(store.port) as proxy:
            proxy.fail(kind, TAGGING[step], seconds)
            tag_through(proxy, store, place)
            assert proxy.failed, step
        check(store, place, 2, labelled=True)

    steps: list[tuple[Callable[[str], None], str]] = [(importing, step) for step in STEPS]
    steps += [(tagging, step) for step in TAGGING]
    with ThreadPoolExecutor(len(steps)) as pool:
        for future in [pool.submit(work, step) for work, step in steps]:
            future.result()


@dataclass(frozen=True)
class Minute:
    """An import that goes on while its store fails for a minute, and others tests are run."""

    proxy: Proxy
    uri: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def minute(store: Store) -> Iterator[Minute]:
    uri = f"s3://{BUCKET}/minute/dataset"
    with proxied(store.port) as proxy:
        proxy.fail("503", STEPS["committing an import"], 60.0)
        command = ["import", put_shard(store, uri), uri, *flags("-o", through(proxy))]
        program = [sys.executable, "-m", "laketag", *command]
        with subprocess.Popen(program, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            yield Minute(proxy, uri, process)
            process.kill()  # where the test that waits for it was not asked for


@pytest.fixture(scope="module")
def bad_seconds(request: pytest.FixtureRequest, store: Store) -> Iterator[dict[str, Future[None]]]:
    """All kinds of them at once, since most of the time they wait; by their kind."""
    seconds = request.config.getoption("--fault-seconds")
    with ThreadPoolExecutor(len(KINDS)) as pool:
        yield {
            kind: pool.submit(fail_in_each_step, store, f"s3://{BUCKET}/bad-{kind}/dataset", kind, seconds)
            for kind in KINDS
        }


@pytest.mark.usefixtures("minute")  # which passes meanwhile
@pytest.mark.parametrize("kind", KINDS)
def test_some_bad_seconds_in_any_step_do_no_harm(bad_seconds: dict[str, Future[None]], kind: str) -> None:
    bad_seconds[kind].result()


@pytest.mark.parametrize("made", [True, False])
def test_an_answer_to_a_commit_that_gets_lost_leaves_one_version(tmp_path, store, uri, made):
    with proxied(store.port) as proxy:
        if made:
            imported(store, uri)
            proxy.fail("lose", TAGGING["committing labels"])
            tag_through(proxy, store, uri)
        else:
            proxy.fail("lose", STEPS["committing an import"])
            import_through(proxy, store, uri)

        assert proxy.failed == 1
    check(store, uri, 2 if made else 1, labelled=made)


def test_an_answer_to_an_appending_commit_that_gets_lost_adds_the_rows_once(tmp_path, store, uri):
    imported(store, uri)
    more = Path(tmp_path, "more.tar")
    more.write_bytes(tar_bytes([("new.jpg", b"new")]))
    with proxied(store.port) as proxy:
        proxy.fail("lose", STEPS["committing an import"])
        settings = laketag.ImportSettings(append=True)
        laketag.import_([str(more)], uri, storage_options=through(proxy), settings=settings, engine=Here())

        assert proxy.failed == 1
    keys = lance.dataset(uri, storage_options=store.options).to_table(columns=["__key__"])["__key__"]
    assert sorted(keys.to_pylist()) == sorted([*map(str, range(ROWS)), "new"])


def test_credentials_that_run_out_in_mid_job_are_one_line_and_the_work_stays(tmp_path, store, uri):
    imported(store, uri)
    tagger = f"fakes:CountingTagger?folder={tmp_path}&batch_size=5&seconds_per_batch="
    command = ("tag", uri, "--chunk-rows", "20", "--with")
    with proxied(store.port) as proxy:
        proxy.fail("expired", rb"PUT \S*/_laketag/[0-9a-f]{32}/\S*/labels/", 600.0, skip=1)
        words = [*command, f"{tagger}0.2", *flags("-o", through(proxy))]
        program = [sys.executable, "-m", "laketag", *words]
        stopped = subprocess.run(program, env=environment(), capture_output=True, text=True, check=False)

    again = run(*command, f"{tagger}0", "--json", *flags("-o", store.options))

    assert (stopped.returncode, again.returncode) == (1, 0)
    assert "said 400 Bad Request" in stopped.stderr
    assert "look at the credentials" in stopped.stderr
    assert "s3cret" not in stopped.stderr
    assert len(stopped.stderr.strip().splitlines()) <= 2  # the watch may say that the store does not answer
    assert 0 < json.loads(again.stdout)["computed"] < ROWS
    assert json.loads(again.stdout)["version_after"] == 2


def test_a_minute_without_a_store_is_outlived_and_said_once(store: Store, minute: Minute) -> None:
    _, said = minute.process.communicate()

    assert minute.process.returncode == 0
    assert minute.proxy.failed
    assert said.count("does not answer") == 1
    check(store, minute.uri, 1, labelled=False)
