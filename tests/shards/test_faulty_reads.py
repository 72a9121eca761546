"""Reads of a shard elsewhere that fail, fall short or are altered at random: no sample is lost in silence."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from laketag.errors import ShardError
from laketag.shards import ranged, web
from laketag.shards.ledger import Ledger
from laketag.shards.samples import read_samples
from tars import tar_bytes

pytestmark = pytest.mark.slow

PASSING = ("refused", "hung up", "cut off")
FOR_GOOD = ("another shard", "all of it", "shorter")
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
        elif fault == "shorter":
            self.answer(206, body[:-1], len(body) - 1)
        else:
            etag = '"other"' if fault == "another shard" else '"same"'
            self.answer(206, body[: len(body) // 2] if fault == "cut off" else body, len(body), etag)

    def answer(self, status: int, body: bytes, length: int, etag: str = '"same"') -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Range", f"bytes 0-0/{len(self.content)}")
        self.send_header("ETag", etag)
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
