"""The engines that the contract is run on, and what each needs on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
STARTED = ["ray", "spark", "spark-cluster"]
ALL = [*LOCAL, *(pytest.param(name, marks=pytest.mark.slow) for name in STARTED)]


@contextmanager
def opened(name: str) -> Iterator[Engine]:
    """Start what an engine needs, by its name; it ends with the block."""
    if name in LOCAL:
        yield Local(int(name[-1]), grace=20)
    elif name == "ray":
        require_ray()
        with ray.connected(RAY):
            yield RAY
    else:
        require_spark()
        engine = CLUSTER if name == "spark-cluster" else SPARK
        os.environ["SPARK_LOCAL_IP"] = LOOPBACK["SPARK_LOCAL_IP"]  # for the one JVM of all sessions
        with spark.connected(engine):
            yield engine


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
