"""What a store refuses is one line on every command: a code and what to look at, and nothing more of it."""

from __future__ import annotations

import os

import pytest

import laketag
from programs import Done, run
from proxy import proxied
from servers import BUCKET, Store, flags, options
from tars import sample, write_tar

pytestmark = pytest.mark.slow

AGAINST = {
    "query": (rb"GET \S*/data/", "query {uri} --limit 1"),
    "query --sql": (rb"GET \S*/data/", "query {uri} --sql select\tsum(n)\tfrom\tdataset"),
    "query --where": (rb"GET \S*/data/", "query {uri} --where n>1"),
    "report": (rb"GET \S*/dataset", "report {uri} {folder}/page.html"),
    "export": (rb"PUT \S*/out/", "export {uri} {uri}/../out"),
    "rename-column": (rb"PUT \S*/_versions/", "rename-column {uri} n m"),
    "add-column": (rb"PUT \S*/_versions/", "add-column {uri} m n*2"),
    "import": (rb"GET \S*_laketag", "import {folder}/a.tar {uri}"),
    "clean": (rb"GET \S*_laketag", "clean {uri} --older-than 0 --yes"),
}
"""What fails from its first request of a kind on, as if credentials had run out."""


@pytest.fixture(scope="module")
def made(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A dataset on the store, and the folder of its shard. Nothing that these tests do changes it."""
    folder = tmp_path_factory.mktemp("refused")
    write_tar(folder / "a.tar", *(sample(str(n), {"n": n}) for n in range(5)))
    uri = f"s3://{BUCKET}/refused/dataset"
    laketag.import_([str(folder / "a.tar")], uri, storage_options=store.options)
    return uri, str(folder)


def is_one_line(done: Done, *parts: str) -> bool:
    [line] = done.stderr.splitlines()
    return done.returncode == 1 and len(line) < 300 and all(part in line for part in parts)


@pytest.mark.parametrize("command", AGAINST)
def test_credentials_that_run_out_are_one_line(store: Store, made: tuple[str, str], command: str) -> None:
    uri, folder = made
    begins, words = AGAINST[command]
    asked = [word.format(uri=uri, folder=folder).replace("\t", " ") for word in words.split(" ")]
    asked = [word.replace("/dataset/../", "/") for word in asked]
    with proxied(store.port) as proxy:
        proxy.fail("expired", begins, 600.0)
        done = run(*asked, *flags("-o", options(proxy.endpoint)))

    assert proxy.failed
    assert is_one_line(done, "the store said 400 Bad Request", "look at the credentials"), done.stderr
    assert "s3cret" not in done.stderr
    assert laketag.show(uri, storage_options=store.options).version == 1


@pytest.mark.parametrize("words", ["show", "query", "versions", "clean", "report", "export", "rename-column"])
def test_a_wrong_key_is_one_line(store: Store, made: tuple[str, str], words: str) -> None:
    uri, folder = made
    more = {"report": [f"{folder}/page.html"], "export": [f"{folder}/out"], "rename-column": ["n", "m"]}
    wrong = store.options | {"secret_access_key": "s3cret"}

    done = run(words, uri, *more.get(words, []), *flags("-o", wrong))

    assert is_one_line(done, "the store said 403 Forbidden", "look at the credentials"), done.stderr


@pytest.mark.parametrize("words", ["show {uri}", "import {folder}/a.tar {uri}", "serve {uri} --port 0"])
def test_no_credentials_anywhere_are_one_line(
    store: Store, made: tuple[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, folder = made
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, f"{folder}/none")
    asked = words.format(uri=uri, folder=folder).split()

    done = run(*asked, "-o", f"endpoint={store.endpoint}", "-o", "region=us-east-1")

    assert is_one_line(done, uri, "no credentials could be had"), done.stderr


def test_a_bucket_that_is_not_there_is_said_to_be(store: Store, made: tuple[str, str]) -> None:
    uri, folder = made
    elsewhere = "s3://nobucket/404/dataset"
    asked = (
        ["show", elsewhere],
        ["import", f"{folder}/a.tar", elsewhere],
        ["export", uri, "s3://nobucket/404/out"],
        ["import", "s3://nobucket/404/shards", f"{folder}/local.lance"],
    )
    ends = [
        run(*words, *flags("--shard-option" if words[-1][0] == "/" else "-o", store.options))
        for words in asked
    ]

    for done in ends:
        assert is_one_line(done, "s3://nobucket/404", "the store said 404 Not Found", "the bucket's name")


def test_a_name_with_a_number_in_it_is_not_taken_for_an_answer(store: Store) -> None:
    wrong = store.options | {"secret_access_key": "s3cret"}

    done = run("show", f"s3://{BUCKET}/404/dataset", *flags("-o", wrong))

    assert is_one_line(done, "the store said 403 Forbidden")
