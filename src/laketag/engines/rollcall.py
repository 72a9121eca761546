"""A wire from each worker to the driver, for an engine that has none: who is alive, and a word to stop."""

from __future__ import annotations

import hmac
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from laketag.engines import stopping
from laketag.engines.answering import answer, said
from laketag.engines.protocol import Workers

# What is said on a wire: one byte at a time.
_GO, _STOP, _BYE = b"g", b"s", b"b"
_BUSY, _IDLE = b"1", b"0"
_NONCE = 32
_PATIENCE = 5.0
"""Seconds for a call to go through; a firewall may swallow it."""
_CALL_AGAIN = 60.0
"""Seconds after a call in vain."""


@dataclass(frozen=True)
class Endpoint:
    """Where the driver listens."""

    host: str
    port: int
    secret: bytes = field(repr=False)
    """A worker proves that it knows it; it is new for each run."""


class RollCall:
    """The driver's end."""

    def __init__(self, host: str, bind: str, tell: Callable[[Workers], None]) -> None:
        """Listen on an address of this machine, which workers reach as `host`."""
        self._listener = socket.create_server((bind, 0), backlog=128)
        self.endpoint = Endpoint(host, self._listener.getsockname()[1], secrets.token_bytes(32))
        self._tell = tell
        self._here: set[socket.socket] = set()
        self._lost = 0
        self._word = _GO
        self._changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self, grace: float) -> None:
        """Tell all workers to stop, and wait until they have gone, at most the grace."""
        with self._changed:
            self._say(_STOP)
            self._changed.wait_for(lambda: not self._here, grace)

    def close(self) -> None:
        """Let the workers go on with whatever comes after this run."""
        with self._changed:
            self._say(_BYE)
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _say(self, word: bytes) -> None:
        self._word = word
        for worker in self._here:
            with suppress(OSError):  # it is just dying: its thread will see that
                worker.sendall(word)

    def _accept(self) -> None:
        while True:
            try:
                worker, _ = self._listener.accept()
            except OSError:  # the end of listening
                return
            threading.Thread(target=self._attend, args=(worker,), daemon=True).start()

    def _attend(self, worker: socket.socket) -> None:
        with worker, suppress(OSError):
            worker.settimeout(_PATIENCE)
            nonce = secrets.token_bytes(_NONCE)
            worker.sendall(nonce)
            if not hmac.compare_digest(_read(worker, _NONCE), _proof(self.endpoint, nonce)):
                return
            worker.settimeout(None)
            self._follow(worker)

    def _follow(self, worker: socket.socket) -> None:
        with self._changed:
            self._here.add(worker)
            self._report()
            with suppress(OSError):  # it has died just now, which the next lines find out
                worker.sendall(self._word)
        last = _IDLE
        with suppress(OSError):
            while state := worker.recv(1):
                last = state
        with self._changed:
            self._here.discard(worker)
            self._lost += last == _BUSY
            self._report()
            self._changed.notify_all()

    def _report(self) -> None:
        if self._word == _GO:
            # Whoever dies at work leaves one task, which is given out again.
            self._tell(Workers(len(self._here), self._lost, self._lost))


_wires: dict[Endpoint, socket.socket] = {}
_unheard: dict[Endpoint, float] = {}
"""When a driver was called in vain: not every task is to wait for a firewall."""
_at_work = threading.Event()
"""A worker between tasks is not stopped: its next task may be another run's."""
_turn = threading.Lock()
"""A task ends before a word is heard, or after."""


def answer_on_roll(host: str, port: int, secret: bytes, pickled: bytes, task: bytes) -> bytes:
    """Answer a task, as `answering.say` does, on the roll of the driver that listens there.

    `stopping.requested()` turns true when the driver says so, and when it is gone. A driver that cannot be
    called costs no more than that. A worker that is told to stop ends here: Spark gives its task to another.
    """
    if threading.current_thread() is threading.main_thread():
        stopping.listen()
    with _busy(Endpoint(host, port, secret)):
        answered = answer(pickled, task)
        if answered.is_cut:
            os._exit(1)
        return said(answered)


@contextmanager
def _busy(driver: Endpoint) -> Iterator[None]:
    _at_work.set()
    wire = _wires.get(driver) or _call(driver)
    _send(wire, _BUSY)
    try:
        yield
    finally:
        with _turn:
            _at_work.clear()
            _send(wire, _IDLE)
            if wire is not None and driver not in _wires:  # the word to stop came too late for this task
                wire.close()


def _send(wire: socket.socket | None, state: bytes) -> None:
    if wire is not None:
        with suppress(OSError):
            wire.sendall(state)


def _call(driver: Endpoint) -> socket.socket | None:
    if time.monotonic() - _unheard.get(driver, -math.inf) < _CALL_AGAIN:
        return None
    try:
        wire, word = _answered(driver)
    except OSError:
        _unheard[driver] = time.monotonic()
        return None
    wire.settimeout(None)
    if word == _STOP:
        stopping.request()
    _wires[driver] = wire
    threading.Thread(target=_listen, args=(driver, wire), daemon=True).start()
    return wire


def _answered(driver: Endpoint) -> tuple[socket.socket, bytes]:
    wire = socket.create_connection((driver.host, driver.port), _PATIENCE)
    try:
        wire.sendall(_proof(driver, _read(wire, _NONCE)))
        return wire, _read(wire, 1)
    except OSError:
        wire.close()
        raise


def _listen(driver: Endpoint, wire: socket.socket) -> None:
    try:
        word = wire.recv(1)
    except OSError:
        word = b""
    with _turn:
        del _wires[driver]
        if word != _BYE and _at_work.is_set():
            # The driver says so, or is gone: what is at hand is staged, and no more is done. The wire stays
            # until this process ends, which is what the driver waits for.
            stopping.request()
        else:
            wire.close()


def _read(wire: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = wire.recv(size - len(found))
        if not piece:
            raise ConnectionError("the other end has gone")
        found += piece
    return found


def _proof(driver: Endpoint, nonce: bytes) -> bytes:
    return hmac.digest(driver.secret, nonce, "sha256")
