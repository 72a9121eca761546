"""Rows that point into tars: nothing is copied, everything works, and a tar that changed is noticed."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import time
from pathlib import Path

import lance
import pytest

import laketag
from fakes import DigestLabel, sha256_of
from here import import_, tag
from laketag.errors import JobRefused, LinkBroken, ShardRefused
from laketag.gallery.cached import CachedDataset
from laketag.lake.links import Link, note_links, require_links
from laketag.lake.location import Location
from programs import run
from servers import BUCKET, Store, client, flags
from tars import sample, tar_bytes, write_tar

LINKED = laketag.ImportSettings(link=True)


def picture(number: int) -> bytes:
    return os.urandom(50) * (20 * number) if number else b""


class Place:
    """A dataset with tars beside it, on this machine or on a store."""

    def __init__(self, folder: str, store: Store | None) -> None:
        self.folder, self.store = folder, store
        self.uri = f"{folder}/dataset"
        self.options = store.options if store else {}
        self.pictures = [picture(number) for number in range(40)]

    def put(self, name: str, pictures: list[bytes]) -> str:
        content = tar_bytes([(f"{i}.jpg", each) for i, each in enumerate(pictures)])
        place = f"{self.folder}/{name}"
        if self.store:
            key = place.removeprefix(f"s3://{BUCKET}/")
            client(self.store).put_object(Bucket=BUCKET, Key=key, Body=content)
        else:
            Path(place).write_bytes(content)
        return place

    def remove(self, place: str) -> None:
        if self.store:
            client(self.store).delete_object(Bucket=BUCKET, Key=place.removeprefix(f"s3://{BUCKET}/"))
        else:
            Path(place).unlink()

    def linked(self, name: str = "a 1%.tar") -> str:
        tar = self.put(name, self.pictures)
        import_([tar], self.uri, storage_options=self.options, settings=LINKED)
        return tar

    def images(self) -> list[bytes]:
        dataset = lance.dataset(self.uri, storage_options=self.options)
        return dataset.scanner(columns=["jpg"], blob_handling="all_binary").to_table()["jpg"].to_pylist()


@pytest.fixture(params=["folder", pytest.param("store", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Place(str(tmp_path), None)
    uri = request.getfixturevalue("uri")
    return Place(uri.removesuffix("/dataset"), request.getfixturevalue("store"))


def test_images_are_read_out_of_the_tars_and_none_is_copied(place):
    place.linked()

    report = tag(place.uri, [DigestLabel()], storage_options=place.options)

    assert (report.computed, report.tars) == (40, 1)
    assert place.images() == place.pictures
    labels = lance.dataset(place.uri, storage_options=place.options).to_table(columns=["SHA256"])
    # The first body is empty: an image that is there, of no bytes.
    assert labels["SHA256"].to_pylist() == [sha256_of(each) for each in place.pictures]
    options = flags("-o", place.options)
    rows = run("query", place.uri, "--columns", "__key__,jpg", "--json", *options)
    assert len(rows.stdout.splitlines()) == 40
    if not place.store:
        written = sum(file.stat().st_size for file in Path(place.uri, "data").iterdir())
        assert written < sum(map(len, place.pictures)) / 10


def test_more_tars_are_linked_later_and_the_same_again_adds_nothing(place):
    first = place.linked()
    second = place.put("b.tar", place.pictures[:5])
    settings = laketag.ImportSettings(link=True, append=True)

    for _ in range(2):
        import_([first, second], place.uri, storage_options=place.options, settings=settings)

    assert place.images() == [*place.pictures, *place.pictures[:5]]


@pytest.mark.slow
def test_a_tar_that_is_put_back_on_a_store_is_what_it_was(store, uri):
    place = Place(uri.removesuffix("/dataset"), store)
    tar = place.linked()
    location = Location.of(place.uri, place.options)
    place.remove(tar)
    time.sleep(1.1)  # the store tells whole seconds

    with pytest.raises(LinkBroken, match="byte for byte, or import"):
        require_links(location)
    place.put("a 1%.tar", place.pictures)

    assert require_links(location) == 1
    place.put("a 1%.tar", place.pictures[::-1])
    with pytest.raises(LinkBroken, match="was changed"):
        require_links(location)


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_a_tar_that_is_not_what_it_was_is_noticed(place, what):
    tar = place.linked()
    if what == "gone":
        place.remove(tar)
    else:
        place.put("a 1%.tar", place.pictures[::-1])

    with pytest.raises(LinkBroken, match=f"a 1%.tar (is|was) {what}"):
        tag(place.uri, [DigestLabel()], storage_options=place.options)
    with pytest.raises(LinkBroken):
        CachedDataset(Location.of(place.uri, place.options), None)
    options = flags("-o", place.options)
    images = run("query", place.uri, "--columns", "jpg", "--json", *options)
    keys = run("query", place.uri, "--json", *options)

    assert (images.returncode, keys.returncode) == (1, 0)
    assert f"a 1%.tar {'is gone' if what == 'gone' else 'was changed'}" in images.stderr
    assert len(keys.stdout.splitlines()) == 40
    assert lance.dataset(place.uri, storage_options=place.options).version == 1


def test_clean_leaves_the_notes_on_linked_tars(place):
    tar = place.linked()
    options = flags("-o", place.options)

    assert run("clean", place.uri, "--older-than", "0", "--yes", *options).returncode == 0

    place.remove(tar)
    with pytest.raises(LinkBroken):
        tag(place.uri, [DigestLabel()], storage_options=place.options)


def test_the_note_that_was_written_last_holds_whatever_the_clocks_say(tmp_path, monkeypatch):
    tar = write_tar(tmp_path / "a.tar", sample("a"))
    location, status = Location.of(str(tmp_path / "dataset")), tar.stat()
    note_links(location, [Link(str(tar), status.st_size + 1, 1, "")])

    monkeypatch.setattr(time, "time_ns", lambda: 1)
    note_links(location, [Link(str(tar), status.st_size, status.st_mtime_ns, "")])

    assert require_links(location) == 1


def test_what_cannot_be_linked_is_refused(tmp_path):
    uri = str(tmp_path / "dataset")
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(tar_bytes([("a.jpg", b"A")])))
    plain = write_tar(tmp_path / "b.tar", sample("b"))

    with pytest.raises(ShardRefused, match="gzip"):
        import_([str(packed)], uri, settings=LINKED)
    apart = write_tar(
        tmp_path / "0.tar", [("a.jpg", b"A"), ("b.jpg", b"B")], [("a.txt", b""), ("b.txt", b"")]
    )
    with pytest.raises(ShardRefused, match="gzip"):
        import_([str(apart), str(packed)], uri, settings=LINKED)
    import_([str(plain)], uri)
    more = laketag.ImportSettings(link=True, append=True)
    other = write_tar(tmp_path / "c.tar", sample("c"))
    with pytest.raises(JobRefused, match="holds copies"):
        import_([str(other)], uri, settings=more)


@pytest.mark.slow
def test_tars_of_another_store_are_refused(store, uri):
    place = Place(uri.removesuffix("/dataset"), store)
    tar = place.put("a.tar", place.pictures)
    elsewhere = laketag.ImportSettings(link=True, shard_options={**store.options, "region": "eu-west-1"})

    with pytest.raises(ShardRefused, match="with its options"):
        import_([tar], uri, storage_options=store.options, settings=elsewhere)


@pytest.mark.slow
def test_who_stops_waiting_for_the_tars_store_need_not_wait_for_each_tar(tmp_path):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        endpoint = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    options = {"endpoint": endpoint, "allow_http": "true", "access_key_id": "x", "secret_access_key": "x"}
    location = Location(str(tmp_path), {**options, "region": "us-east-1"})
    note_links(location, [Link(f"s3://bucket/{number}.tar", 1, 1, "") for number in range(50)])
    before, started = signal.signal(signal.SIGALRM, stop), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            require_links(location)
    finally:
        signal.signal(signal.SIGALRM, before)

    assert time.monotonic() - started < 60
