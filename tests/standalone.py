"""A Spark cluster of two machines, for all that Spark can tell: each worker has its own loopback address."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_STARTED = re.compile(r"Starting Spark master at (spark://[\d.:]+)")
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For a JVM that lives for seconds: it costs less to start, and is slower after minutes."""
_MASTER, *_WORKERS = "127.0.0.1", "127.0.0.2", "127.0.0.3"


@contextmanager
def standalone(folder: Path) -> Iterator[str]:
    """Start a master and two workers of one core each; give the master's URL."""
    with ExitStack() as running:
        log = folder / "master.log"
        running.enter_context(_java("master.Master", _MASTER, log, "--port", "0"))
        master = _told(log)
        for host in _WORKERS:
            words = ("--cores", "1", "--memory", "1g", "--work-dir", str(folder / host), master)
            running.enter_context(_java("worker.Worker", host, folder / f"{host}.log", *words))
        yield master


@contextmanager
def _java(name: str, host: str, log: Path, *words: str) -> Iterator[None]:
    import pyspark

    home = Path(pyspark.__file__).parent
    program = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", "--host", host]
    variables = os.environ | {
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": host,
        "SPARK_DAEMON_JAVA_OPTS": QUICK,
    }
    with log.open("w") as said:
        command = [*program, "--webui-port", "0", *words]
        process = subprocess.Popen(command, env=variables, stdout=said, stderr=said)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _told(log: Path) -> str:
    deadline = time.monotonic() + 180
    while (found := _STARTED.search(log.read_text())) is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return found[1]
