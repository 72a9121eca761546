"""Starting somebody else's cluster, and what becomes of it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import places
from laketag.engines.launching import launching
from programs import environment


def test_a_signal_that_comes_while_a_cluster_starts_is_for_the_program_s_own_handler() -> None:
    told: list[int] = []

    def start() -> None:
        with launching():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
            signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
    try:
        with pytest.raises(SystemExit):
            start()
    finally:
        signal.signal(signal.SIGTERM, before)

    assert told == [signal.SIGTERM]


DIES = """
import time
from pyspark import SparkContext
from laketag.engines.spark import Spark
from laketag.errors import EngineError

def slow(n):
    time.sleep(1)
    return n

try:
    for _ in Spark().run(slow, range(9)):
        SparkContext._gateway.proc.kill()
except EngineError as error:
    print(error)
print(list(Spark().run(abs, [-1])))
"""


@pytest.mark.slow
def test_a_spark_whose_jvm_dies_says_so_and_the_next_run_has_another() -> None:
    places.require_spark()

    done = subprocess.run([sys.executable, "-c", DIES], capture_output=True, text=True, env=environment())

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("Spark's JVM has died; ")
    assert second == "[1]"
