"""The wire between driver and workers, without a cluster."""

from __future__ import annotations

import socket
import struct
import time

import cloudpickle
import pytest

from laketag.engines import rollcall
from laketag.engines.answering import packed
from laketag.engines.protocol import unheard
from laketag.engines.rollcall import RollCall

HOST = "127.0.0.1"


def test_a_worker_that_dies_while_it_calls_is_not_waited_for() -> None:
    roll = RollCall(HOST, HOST, unheard)
    try:
        with roll._changed:  # so that it is gone before it is answered
            worker = socket.create_connection((HOST, roll.endpoint.port))
            nonce = worker.recv(32)
            worker.sendall(rollcall._proof(roll.endpoint, nonce))
            time.sleep(0.2)
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            worker.close()  # with a reset, as of a process that is killed
        time.sleep(0.2)
        started = time.monotonic()
        roll.stop(grace=10)
    finally:
        roll.close()

    assert time.monotonic() - started < 5


def test_a_driver_that_no_call_reaches_is_not_called_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # to be set back: a worker sets it for good
    monkeypatch.setattr(rollcall, "_PATIENCE", 0.2)
    monkeypatch.setattr("laketag.engines.stopping.listen", lambda: None)  # this is no worker
    with socket.create_server((HOST, 0)) as deaf:
        place = (HOST, deaf.getsockname()[1], b"secret")
        done = [
            cloudpickle.loads(rollcall.answer_on_roll(*place, packed(abs), cloudpickle.dumps(-n))).value
            for n in range(3)
        ]
        deaf.settimeout(0.2)
        deaf.accept()[0].close()  # the first one
        with pytest.raises(TimeoutError):
            deaf.accept()

    assert done == [0, 1, 2]
