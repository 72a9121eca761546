"""What a process keeps open for a folder follows credentials that change."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator

import pytest

from laketag.lake import session
from laketag.lake.location import Location


class Doorkeeper(http.server.BaseHTTPRequestHandler):
    """A store that lets no one in, and remembers who came."""

    came: list[str]

    def do_GET(self) -> None:
        found = re.search(r"Credential=([^/]+)", self.headers["Authorization"])
        self.came.append(found[1] if found else "nobody")
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store() -> Iterator[tuple[Location, list[str]]]:
    came: list[str] = []
    kind = type("Doorkeeper", (Doorkeeper,), {"came": came})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        options = {
            "aws_region": "us-east-1",
            "aws_endpoint": f"http://127.0.0.1:{server.server_port}",
            "client_max_retries": "0",
        }
        yield Location.of("s3://bucket/data", options), came
        server.shutdown()
        thread.join()


def who_comes(store: tuple[Location, list[str]]) -> str:
    location, came = store
    with pytest.raises(RuntimeError, match="403"):
        session.session_of(location).list()
    return came[-1]


@pytest.mark.slow
def test_credentials_that_change_in_the_environment_are_taken_in_a_while(store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(session, "monotonic", lambda: now[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    assert who_comes(store) == "old"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")

    now[0] += 60

    assert who_comes(store) == "new"


def test_all_files_of_a_folder_share_a_session(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "monotonic", lambda: 1000.0)

    first, second = (session.session_of(Location.of(str(tmp_path))) for _ in range(2))

    assert first is second
