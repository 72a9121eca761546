from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from laketag.errors import ShardError, ShardNotFound, ShardRefused
from laketag.lake import answering
from laketag.shards import web
from laketag.shards.importing import ImportSettings, import_
from laketag.shards.sources import find_shards, places_of
from proxy import proxied
from servers import web as web_server
from tars import sample, tar_bytes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "s-008.tar",
        "s-009.tar",
        "s-010.tar",
        "a.tgz",
        "b.tar.gz",
        "notes.txt",
        "odd{1}.tar",
        ".hidden.tar",
    ):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    return [Path(shard.path).name for shard in find_shards(arguments)]


def test_a_file_is_a_shard_whatever_its_name(folder):
    [shard] = find_shards(["notes.txt"])

    assert (shard.url, shard.path, shard.size) == (str(folder / "notes.txt"), str(folder / "notes.txt"), 1)


def test_an_address_of_a_file_is_the_file(folder):
    (folder / "照片 100%20.tar").write_bytes(b"x")

    assert names((folder / "照片 100%20.tar").as_uri()) == ["照片 100%20.tar"]


def test_a_text_alone_is_one_argument(folder):
    assert find_shards(str(folder)) == find_shards([str(folder)])


def test_a_folder_gives_its_tars_in_order(folder):
    (folder / "s-008-unpacked.tar").mkdir()

    assert names(str(folder)) == ["a.tgz", "b.tar.gz", "odd{1}.tar", "s-008.tar", "s-009.tar", "s-010.tar"]


@pytest.mark.parametrize(
    "argument",
    [
        "s-*.tar",
        "s-{008..010}.tar",
        "s-{008,009,010}.tar",
        "s-{0{08..09},010}.tar",
        "s-0{0*,10}.tar",
        "{s,s}-0*.tar",
    ],
)
def test_globs_and_braces_name_the_same_shards(folder, argument):
    assert names(argument) == ["s-008.tar", "s-009.tar", "s-010.tar"]


def test_brace_ranges_count_down_and_multiply(folder):
    assert names("s-0{10..08}.tar") == ["s-010.tar", "s-009.tar", "s-008.tar"]
    assert names("s-{00,00}{8,9}.tar") == ["s-008.tar", "s-009.tar"]


def test_a_name_that_is_there_is_meant_as_it_stands(folder):
    assert names("odd{1}.tar") == ["odd{1}.tar"]


def test_a_list_names_shards_beside_it_or_from_here(folder, tmp_path, monkeypatch):
    (folder / "list.txt").write_text("# mine\n\ns-009.tar\ns-{008..009}.tar\n")
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")

    assert names("@../list.txt") == ["s-009.tar", "s-008.tar"]


def test_a_shard_named_twice_counts_once_at_its_first_place(folder):
    assert names("s-009.tar", str(folder / "s-008.tar"), "./s-009.tar", "s-*.tar")[:3] == [
        "s-009.tar",
        "s-008.tar",
        "s-010.tar",
    ]


@pytest.mark.parametrize(
    "argument", ["none.tar", "none*.tar", "s-{008..011}.tar", "@none.txt", "@loop.txt", "empty"]
)
def test_an_argument_that_names_nothing_is_refused(folder, argument):
    (folder / "loop.txt").write_text("")
    (folder / "empty").mkdir()

    with pytest.raises(ShardNotFound) as error:
        find_shards([argument])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "argument",
    ["pipe:cat x.tar", "s3://user:secret@bucket/x.tar?signature=secret", "ftp://secret@x/y.tar", "@self.txt"],
)
def test_what_is_not_read_is_refused_without_showing_secrets(folder, argument):
    (folder / "self.txt").write_text("@self.txt\n")

    with pytest.raises(ShardRefused) as error:
        find_shards([argument])
    assert "secret" not in str(error.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks hold no such names")
def test_a_shard_whose_name_is_of_another_encoding_is_refused(folder):
    shard = os.fsdecode(b"\xd5\xd5\xc6\xac.tar")
    Path(shard).write_bytes(b"")

    with pytest.raises(ShardRefused, match="not UTF-8"):
        find_shards([shard])


def test_a_range_of_millions_is_refused_at_once(folder):
    with pytest.raises(ShardRefused):
        find_shards(["{0..99999}-{0..99999}.tar"])
    with pytest.raises(ShardRefused):
        find_shards(["{0..99999999999}.tar"])


def test_a_server_that_does_not_answer_is_named_and_not_the_dataset(monkeypatch):
    monkeypatch.setattr(web, "patiently", lambda action, may_pass, given_up: action())
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and not listening: the connection is refused
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar"

        with pytest.raises(ShardError, match=f"^{address} cannot be read: .*refused; look at the address"):
            find_shards([f"{address}?signature=secret"])


def test_the_places_of_shards_are_told_without_what_may_be_a_secret():
    names = ["s3://lake/a.tar", "here/b.tar", "https://me:s3cret@host:8443/c.tar?sig=s3cret", "s3://lake/d/"]

    assert places_of(names) == ["s3://lake", "https://host:8443"]


@pytest.mark.slow
def test_who_waits_for_a_server_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(answering, "EVERY", 0.1)
    said: list[str] = []

    with (
        web_server({"/a.tar": tar_bytes(sample("x"))}) as (address, _),
        proxied(int(address.rpartition(":")[2])) as proxy,
    ):
        (tmp_path / "list.txt").write_text(f"{proxy.endpoint}/a.tar\n")
        proxy.fail("refuse", b"GET", 1.0)
        settings = ImportSettings(tell=said.append)
        report = import_([f"@{tmp_path}/list.txt"], str(tmp_path / "dataset"), settings=settings)

    assert report.rows == 1
    assert said[0] == f"{proxy.endpoint} does not answer; trying again for up to five minutes"
    assert said[1:2] == [f"{proxy.endpoint} answers again"]


@pytest.mark.slow
def test_who_stops_waiting_need_not_wait_for_each_server():
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        place = f"http://127.0.0.1:{closed_soon.getsockname()[1]}"
    before, started = signal.signal(signal.SIGALRM, stop), time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            find_shards([f"{place}/{number:02}.tar" for number in range(50)])
    finally:
        signal.signal(signal.SIGALRM, before)

    assert time.monotonic() - started < 60
