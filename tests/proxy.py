"""A proxy before a store that fails on purpose, from the first request of a kind on, is slow, and counts."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

KINDS = ("reset", "503", "refuse", "hang")
_REQUEST = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r\n")
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_EXPIRED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 46\r\nConnection: close\r\n\r\n"
    b"<Error><Code>ExpiredToken</Code>s3cret</Error>"
)
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing resets


@dataclass
class Proxy:
    """Passes bytes between clients and a store on this machine, but for its faults."""

    target: int
    """The store's port."""
    port: int = 0
    kind: str = ""
    """How it fails: one of `KINDS`; `expired`, as if credentials had run out; `lose`, one answer is lost."""
    begins: re.Pattern[bytes] = field(default_factory=lambda: re.compile(b"$^"))
    """The request that begins it."""
    seconds: float = 0.0
    """How long it fails."""
    requests: int = 0
    """How many requests it fails at least, however long that takes."""
    failed: int = 0
    """Requests, or attempts to connect, that met a fault."""
    delay: float = 0.0
    """Seconds that every request takes longer."""
    asked: list[str] = field(default_factory=list)
    """Every request so far: `GET /bucket/key?...`."""
    most: int = 0
    """The most requests that were delayed at the same time."""
    _waiting: int = 0
    _until: float = 0.0
    _begun: bool = False
    _skip: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(
        self, kind: str, begins: bytes, seconds: float = 0.0, *, skip: int = 0, requests: int = 0
    ) -> None:
        """Fail from the next request that matches on, or a later one; only after another call again."""
        with self._lock:
            self._skip = skip
            self.kind, self.begins = kind, re.compile(begins)
            self.seconds, self.requests = seconds, requests
            self._begun, self._until, self.failed = False, 0.0, 0

    def fault(self, request: bytes) -> str:
        """Say how to fail a request, or nothing."""
        with self._lock:
            if not self._begun and self.begins.search(request):
                if self._skip:
                    self._skip -= 1
                    return ""
                self._begun, self._until = True, time.monotonic() + self.seconds
                if self.kind == "lose":
                    self.failed += 1
                    return self.kind
            are_more = self._begun and self.failed < self.requests and _REQUEST.match(request)
            if are_more or time.monotonic() < self._until:
                self.failed += 1
                return self.kind
            return ""

    def take(self, request: bytes) -> None:
        """Note a request, and let it wait."""
        begins = _REQUEST.match(request)
        if begins:
            with self._lock:
                self.asked.append(f"{begins[1].decode()} {begins[2].decode()}")
                self._waiting += 1
                self.most = max(self.most, self._waiting)
            time.sleep(self.delay)
            with self._lock:
                self._waiting -= 1

    def refuses(self) -> bool:
        """Whether connections are refused now."""
        with self._lock:
            is_refusing = self.kind == "refuse" and time.monotonic() < self._until
            self.failed += is_refusing
            return is_refusing


@contextmanager
def proxied(target: int) -> Iterator[Proxy]:
    """Run a proxy on a free port until the body ends."""
    proxy = Proxy(target)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        proxy.port = server.getsockname()[1]
        thread = threading.Thread(target=_listen, args=(proxy, server, ended))
        thread.start()
        try:
            yield proxy
        finally:
            ended.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", proxy.port)).close()
            thread.join()


def _listen(proxy: Proxy, server: socket.socket, ended: threading.Event) -> None:
    while True:
        client, _ = server.accept()
        if ended.is_set():
            client.close()
            return
        if proxy.refuses():
            _reset(client)
            continue
        threading.Thread(target=_serve, args=(proxy, client), daemon=True).start()


def _serve(proxy: Proxy, client: socket.socket) -> None:
    with suppress(OSError), client, socket.create_connection(("127.0.0.1", proxy.target)) as store:
        loses = threading.Event()
        answers = threading.Thread(target=_answer, args=(store, client, loses), daemon=True)
        answers.start()
        while request := client.recv(1 << 16):
            proxy.take(request)
            fault = proxy.fault(request)
            if fault in ("503", "expired"):
                client.sendall(_BUSY if fault == "503" else _EXPIRED)
                return
            if fault in ("reset", "refuse"):
                _reset(client)
                return
            if fault == "hang":
                while client.recv(1 << 16):  # until the client gives up
                    pass
                return
            if fault == "lose":
                loses.set()
            store.sendall(request)


def _answer(store: socket.socket, client: socket.socket, loses: threading.Event) -> None:
    with suppress(OSError):
        while answer := store.recv(1 << 16):
            if loses.is_set():
                # The thread that waits for the client closes it: a socket that is waited for stays open here.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.shutdown(socket.SHUT_RD)
                return
            client.sendall(answer)
        client.shutdown(socket.SHUT_WR)


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    client.close()
