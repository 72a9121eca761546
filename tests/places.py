"""The engines that the contract is run on, each with the one cluster or session that all its tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager, ExitStack
from typing import Self

import pytest

from laketag.engines import ray, spark
from laketag.engines.local import Local
from laketag.engines.protocol import Engine

RAY = ray.Ray(workers=2, grace=20)
SPARK = spark.Spark(workers=2, grace=20)
CLUSTER = spark.Spark(master="local-cluster[2,1,1024]", grace=20)

NAMES = ["local-1", "local-2", "ray", "spark", "spark-cluster"]
ALL = [pytest.param(name, marks=[] if "local" in name else [pytest.mark.slow]) for name in NAMES]


class Open:
    """What is started: a Ray cluster, and one Spark session, since a process has at most one at a time."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, ExitStack]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _, stack in self.kept.values():
            stack.close()

    def engine(self, name: str) -> Engine:
        """Give an engine by name; what it needs is started, or was."""
        if name.startswith("local"):
            return Local(int(name[-1]), grace=20)
        if name == "ray":
            require_ray()
            self._keep("ray", name, ray.connected(RAY))
            return RAY
        require_spark()
        engine = CLUSTER if name == "spark-cluster" else SPARK
        self._keep("spark", name, spark.connected(engine))
        return engine

    def _keep(self, kind: str, name: str, opening: AbstractContextManager[object]) -> None:
        started, stack = self.kept.get(kind, ("", ExitStack()))
        if started == name:
            return
        stack.close()
        stack = ExitStack()
        stack.enter_context(opening)
        self.kept[kind] = name, stack


def require_ray() -> None:
    """Skip the test where there is no Ray; in CI, fail."""
    if importlib.util.find_spec("ray") is None:
        _missing("Ray is missing: pip install 'laketag[ray]'")


def require_spark() -> None:
    """Skip the test where there is no Spark, or no Java for it; in CI, fail."""
    if importlib.util.find_spec("pyspark") is None:
        _missing("PySpark is missing: pip install 'laketag[spark]'")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        _missing("Java is missing, which Spark needs: install openjdk-17-jre-headless or newer")


def _missing(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
