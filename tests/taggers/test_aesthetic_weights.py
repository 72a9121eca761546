"""Where the weights of `aesthetic` lie: folders of several forms, the hub's cache, addresses that fail."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from laketag.errors import BadTagger
from laketag.taggers.aesthetic import COMMIT, Aesthetic
from laketag.taggers.digest import tagger_digest
from laketag.taggers.weights import brought_here, commit_of, downloaded
from programs import environment
from siglips import encoder, head, scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "PNG")
    return [buffer.getvalue()]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Aesthetic:
    folder = tmp_path_factory.mktemp("models")
    return Aesthetic(encoder=str(encoder(folder / "vision")), head=str(head(folder / "head.pth")))


def in_a_process(program: str, **variables: str) -> str:
    """Run a program with the hub elsewhere, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment() | variables,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Silent:
    """A server that takes connections, counts them, and never answers."""

    def __init__(self, server: socket.socket) -> None:
        self.address = f"http://127.0.0.1:{server.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        self._server = server
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self._server.accept()[0])
            except OSError:  # the test is over
                return


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = Silent(server)
        yield silent
        server.shutdown(socket.SHUT_RDWR)
    for connection in silent.taken:
        connection.close()


@pytest.mark.parametrize("revision", ["", "&revision=main"], ids=["fixed commit", "branch"])
def test_a_hub_that_cannot_be_reached_is_asked_once_and_named_in_one_line(
    revision: str, silent: Silent, tagger: Aesthetic, tmp_path: Path
) -> None:
    program = (
        "import laketag\n"
        "from huggingface_hub import constants\n"
        "from laketag.taggers import weights\n"
        "weights._PATIENCE = 0.5\n"
        f"tagger = laketag.find_tagger('aesthetic?head={tagger.head}{revision}')\n"
        "for endpoint in (constants.ENDPOINT, 'http://127.0.0.1:9'):\n"
        "    constants.ENDPOINT = endpoint\n"
        "    try: laketag.predict(tagger, [])\n"
        "    except laketag.errors.BadTagger as error: print(error)\n"
    )

    lines = in_a_process(program, HF_ENDPOINT=silent.address, HF_HOME=str(tmp_path)).splitlines()

    assert len(lines) == 2
    for line in lines:
        assert line.startswith("the hub cannot be reached for google/siglip-so400m-patch14-384 (")
    assert len(silent.taken) == 1


def test_a_model_in_the_hubs_cache_needs_no_network(
    tagger: Aesthetic, images: list[bytes], tmp_path: Path
) -> None:
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    shutil.copytree(tagger.encoder, snapshot)
    (tmp_path / "image").write_bytes(images[0])
    program = (
        "import laketag, pathlib\n"
        f"tagger = laketag.find_tagger('aesthetic?encoder=org/tiny&revision={COMMIT}&head={tagger.head}')\n"
        f"image = pathlib.Path({str(tmp_path / 'image')!r}).read_bytes()\n"
        "print(tagger.to_download(), laketag.predict(tagger, [image])['AESTHETIC_SCORE'][0])\n"
        "import sys; print('lance' in sys.modules)\n"
    )

    out = in_a_process(program, HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path))

    first, second = out.splitlines()
    assert first.startswith("() ")
    assert float(first[3:]) == pytest.approx(scores(tagger, images)[0], abs=1e-6)
    assert second == "False"


def test_a_published_file_is_downloaded_once_and_its_digest_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"weights")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("HOME", str(tmp_path))
    sha256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c"
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/head.pth"

        assert downloaded(address, sha256).read_bytes() == b"weights"
        assert downloaded(address, sha256).read_bytes() == b"weights"
        with pytest.raises(BadTagger, match="not the file that was published"):
            downloaded(address, "0" * 64)
        server.shutdown()

    assert asked == ["/head.pth", "/head.pth"]
    with pytest.raises(BadTagger, match=r"cannot be reached .*download it elsewhere and give its path"):
        downloaded("http://127.0.0.1:9/head.pth", "1" * 64)


def test_of_weights_of_several_kinds_those_that_are_loaded_are_digested(
    tagger: Aesthetic, images: list[bytes], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tagger.encoder, tmp_path / "parts"))
    part = (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    tensors = load_file(part)
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, part.name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "pytorch_model.bin").write_bytes(b"those of an earlier day")
    parts = replace(tagger, encoder=str(folder))
    before, found = tagger_digest(parts), scores(parts, images)

    save_file({name: tensor * 2 for name, tensor in tensors.items()}, part, {"format": "pt"})

    assert found == scores(tagger, images)
    assert scores(parts, images) != found
    assert tagger_digest(parts) != before


@contextmanager
def answering(said: bytes, times: int) -> Iterator[str]:
    """Serve the same bytes, so many times, whatever is asked; gives the address."""

    def answer() -> None:
        for _ in range(times):
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", b"what?\r\n\r\n"], ids=["cut off", "no HTTP"]
)
def test_an_answer_that_breaks_off_or_is_none_is_named(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(said, 2) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)

        with pytest.raises(BadTagger, match=r"the hub cannot be reached for org/tiny \(."):
            commit_of("org/tiny", "main")
        with pytest.raises(BadTagger, match=r"head\.pth cannot be reached \(."):
            downloaded(f"{address}/head.pth", "2" * 64)


def test_a_download_that_breaks_off_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disconnected(Exception):
        """As the hub's HTTP library has it: no OSError."""

    def broken(*_: object, **__: object) -> None:
        raise Disconnected("peer closed connection")

    # The hub's own client would try for 23 seconds.
    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 1) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)

        with pytest.raises(BadTagger, match=r"org/tiny ended early: peer closed connection; run"):
            brought_here("org/tiny", "0" * 40)
