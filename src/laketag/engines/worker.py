"""The worker process of the local engine: takes functions and tasks from a socket, answers with results."""

from __future__ import annotations

import os
import sys
import threading
from multiprocessing.connection import Connection

from laketag.engines import place, stopping
from laketag.engines.answering import say


def serve(connection: Connection) -> None:
    """Run one function over the tasks that come, until the other end closes."""
    try:
        pickled = connection.recv_bytes()
        while True:
            connection.send_bytes(say(pickled, connection.recv_bytes()))
    except (EOFError, OSError):
        return


def _die_with_the_driver(driver: int) -> None:
    """End this process when its driver is gone: a killed driver must not leave workers at work."""

    def watch() -> None:
        alarm = threading.Event()
        while not alarm.wait(0.5):
            if os.getppid() != driver:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Start a worker; the command line gives the socket's number, the driver's id and the worker's place."""
    stopping.listen()
    place.take(int(sys.argv[3]))
    _die_with_the_driver(int(sys.argv[2]))
    # stdout belongs to the driver's result; what a tagger prints is a message.
    os.dup2(2, 1)
    serve(Connection(int(sys.argv[1])))
    # Threads of native libraries may still run; ending here skips their destructors.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
