"""The engines that the contract is run on, each with the one cluster or session that all its tests share."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

import pytest

from laketag.engines import ray, spark
from laketag.engines.local import Local
from laketag.engines.protocol import Engine
from programs import environment
from standalone import QUICK

RAY = ray.Ray(workers=2, grace=20)
SPARK = spark.Spark(workers=2, grace=20)
CLUSTER = spark.Spark(
    master="local-cluster[2,1,1024]", grace=20, conf={"spark.executor.defaultJavaOptions": QUICK}
)

PANDAS = Path(sys.prefix, "pandas")
"""Where `make test` puts it: beside the other packages it would slow every import of Lance."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "SPARK_LOCAL_IP": "127.0.0.1"}
"""Variables with which what tests start by themselves keeps off the machine's outer address: a Ray, and
a `local-cluster` of Spark, which is for tests alone. What laketag starts needs none."""

LOCAL = ["local-1", "local-2"]
NAMES = [*LOCAL, "ray", "spark", "spark-cluster"]
ALL = [pytest.param(name, marks=[] if name in LOCAL else [pytest.mark.slow]) for name in NAMES]


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
        if name in LOCAL:
            return Local(int(name[-1]), grace=20)
        if name == "ray":
            require_ray()
            self._keep("ray", name, ray.connected(RAY))
            return RAY
        require_spark()
        engine = CLUSTER if name == "spark-cluster" else SPARK
        os.environ["SPARK_LOCAL_IP"] = LOOPBACK["SPARK_LOCAL_IP"]  # for the one JVM of all sessions
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


def require_ray_data() -> dict[str, str]:
    """Give the variables of a program with Ray Data; where that cannot run, skip the test; in CI, fail."""
    require_ray()
    if not (PANDAS / "pandas").is_dir():
        _missing(f"pandas, which Ray Data needs, is not in {PANDAS}: `make test` puts it there")
    variables = environment()
    path = os.pathsep.join([variables["PYTHONPATH"], str(PANDAS)])
    return variables | {"PYTHONPATH": path} | LOOPBACK


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
