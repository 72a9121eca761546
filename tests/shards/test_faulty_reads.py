"""Reads of a shard elsewhere that fail, fall short or are altered at random: no sample is lost in silence."""

from __future__ import annotations

import random
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from laketag.errors import ShardError
from laketag.shards import ranged, web
from laketag.shards.ledger import Ledger
from laketag.shards.samples import read_samples
from laketag.shards.shard import Shard
from tars import tar_bytes

pytestmark = pytest.mark.slow

PASSING = ("refused", "hung up", "cut off")
FOR_GOOD = ("another shard", "another range", "all of it", "shorter")
PICTURES = {f"{at:03d}": random.Random(at).randbytes(700 * (at % 7)) for at in range(60)}
TAR = tar_bytes([(f"{key}.jpg", body) for key, body in PICTURES.items()])


class Handler(BaseHTTPRequestHandler):
    content = TAR
    chance = random.Random()
    faults: tuple[str, ...] = ()
    share = 0.0
    lock = threading.Lock()

    def do_GET(self) -> None:
        start, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
        body = self.content[int(start) : int(end) + 1]
        with self.lock:
            is_faulty = int(end) > 0 and self.chance.random() < self.share
            fault = self.chance.choice(self.faults) if is_faulty else ""
        if fault == "refused":
            self.send_error(503)
        elif fault == "hung up":
            self.close_connection = True
        elif fault == "all of it":
            self.answer(200, self.content, len(self.content))
        elif fault == "another range":
            self.answer(206, self.content[: len(body)], len(body))
        elif fault == "shorter":
            self.answer(206, body[:-1], len(body) - 1, start=int(start))
        else:
            etag = '"other"' if fault == "another shard" else '"same"'
            sent = body[: len(body) // 2] if fault == "cut off" else body
            self.answer(206, sent, len(body), etag, int(start))

    def answer(self, status: int, body: bytes, length: int, etag: str = '"same"', start: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Range", f"bytes {start}-{start + length - 1}/{len(self.content)}")
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", "0")  # is no date
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**traits: object) -> Iterator[str]:
    handler = type("Faulty", (Handler,), traits)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/a.tar"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "BLOCK", 8 << 10)


def read(**traits: object) -> tuple[dict[str, bytes], Ledger]:
    ledger = Ledger("a")
    with serving(**traits) as address:
        shard = web.find(address)
        return {each.key: bytes(each.members["jpg"]) for each in read_samples(shard, ledger)}, ledger


@pytest.mark.parametrize("seed", range(4))
def test_reads_that_fail_for_now_change_nothing(seed):
    found, ledger = read(chance=random.Random(seed), faults=PASSING, share=0.3)

    assert found == PICTURES
    assert ledger.complete


@pytest.mark.parametrize("fault", FOR_GOOD)
def test_an_answer_that_is_not_what_was_asked_for_ends_the_import(fault):
    with pytest.raises(ShardError):
        read(chance=random.Random(0), faults=(fault,), share=0.3)


def test_what_is_wrong_for_good_is_not_asked_for_again(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError(ssl.SSLCertVerificationError("certificate verify failed"))

    with pytest.raises(ShardError, match="nonnumeric port"):
        web.read_range(Shard("a", "http://127.0.0.1:port/a.tar", 5, 0), 0, 1)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ShardError, match="certificate verify failed"):
        web.read_range(Shard("a", "https://127.0.0.1/a.tar", 5, 0), 0, 1)


def test_a_read_that_ends_at_the_moment_when_one_looks_is_no_failure():
    class Late(Future[bytes]):
        def result(self, timeout: float | None = None) -> bytes:
            try:
                return super().result(timeout and 0)
            except TimeoutError:
                self.set_result(b"there")
                raise

    with closing(ranged.RangedStream(Shard("a", "http://127.0.0.1/a.tar", 5, 0))) as stream:
        assert stream._waited_for(Late()) == b"there"


def test_bytes_that_are_altered_on_their_way_never_lose_a_sample_in_silence(request):
    chance = random.Random(5)
    for _ in range(request.config.getoption("--fuzz")):
        altered = bytearray(TAR)
        for _ in range(chance.choice((1, 4, 40))):
            altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)

        found, ledger = read(content=bytes(altered))

        named = len(found) + sum(map(len, ledger.lost.values())) + sum(map(len, ledger.skipped.values()))
        assert ledger.lost or ledger.skipped or len(found) == len(PICTURES)
        assert named > 0
