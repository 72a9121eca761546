"""Tasks on Spark: one Spark task each, models loaded once per Python worker."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any, TypeVar

import cloudpickle

from laketag.engines.answering import elsewhere, heard, packed, value_of
from laketag.engines.launching import launching
from laketag.engines.protocol import Workers, require_some, unheard
from laketag.engines.rollcall import RollCall
from laketag.errors import EngineError, MissingExtra, WorkerLost

T = TypeVar("T")
R = TypeVar("R")

_LOOPBACK = "127.0.0.1"
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""For a JVM that hands out tasks and collects answers: it starts with half the work of one that optimizes."""


@dataclass(frozen=True)
class Spark:
    """Python workers of a Spark: the session that this program has, one at a master, or one of our own."""

    workers: int = 1
    """Python workers at once, of a session that is started here; one that is there is used as it is."""
    master: str | None = None
    """`yarn`, `k8s://...`, `spark://...`. None: the session of this process where there is one, else what
    `spark-submit` says, else one on this machine that listens on loopback only."""
    cpus: int = 1
    """CPUs of each worker; that many threads decode."""
    tries: int = 4
    """How often Spark gives a task out before its dying workers end the run."""
    grace: float = 60.0
    """Seconds that workers get to stage what they have when the run is stopped."""
    py_files: tuple[str, ...] = ()
    """Modules, package folders and archives that travel to the workers."""
    conf: Mapping[str, str] = field(default_factory=dict)
    """Spark's own settings, of a session that is started here."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: there would be no worker.
        """
        require_some(self.workers)

    def run(
        self, fn: Callable[[T], R], tasks: Sequence[T], tell: Callable[[Workers], None] = unheard
    ) -> Generator[R, None, None]:
        """Yield each task's result as it comes; see `Engine.run`.

        Raises:
            MissingExtra: PySpark is not installed.
            EngineError: Spark does not start, or this process has a session at another master, or its workers
                lack laketag.
        """
        if not tasks:
            return
        pickled = packed(fn, self.py_files)
        with connected(self) as context:
            conf = context.getConf()
            host = conf.get("spark.driver.host")
            job = _Job(context, RollCall(host, conf.get("spark.driver.bindAddress", host), tell))
            # Until the first executor comes, which a busy cluster may take long to give.
            tell(Workers(awaited=min(self.workers, len(tasks))))
            try:
                job.start(pickled, [cloudpickle.dumps(task) for task in tasks])
                for said in job.said():
                    yield value_of(heard(said), is_elsewhere=True)
            finally:
                job.stop(self.grace)


class _Job:
    """One Spark job, with a partition for each task: Spark hands them out, retries and speculates.

    A Spark job gives its results when all are there. So each goes into an accumulator, which Spark brings
    to the driver when its task ends, once however often the task was tried.
    """

    def __init__(self, context: Any, roll: RollCall) -> None:
        self._context = context
        self._roll = roll
        self._group = f"laketag-{uuid.uuid4().hex}"
        self._heard: queue.Queue[list[bytes | str] | BaseException | None] = queue.Queue()
        self._is_over = False
        self._thread = threading.Thread(target=lambda: None)

    def start(self, pickled: bytes, tasks: list[bytes]) -> None:
        """Start the job in a thread of its own."""
        results = self._context.accumulator([], _collecting(self._heard))
        answer = elsewhere("laketag.engines.rollcall:answer_on_roll")
        # Plain values: a worker that lacks laketag could not even load others.
        endpoint = astuple(self._roll.endpoint)

        def work(tasks: Iterable[bytes]) -> None:
            for task in tasks:
                results.add([answer(*endpoint, pickled, task)])

        partitions = self._context.parallelize(tasks, len(tasks))

        def run() -> None:
            try:
                self._context.setJobGroup(self._group, "laketag")
                partitions.foreachPartition(work)
                self._heard.put(None)
            # It is raised where the results are waited for.
            except BaseException as error:
                self._heard.put(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def said(self) -> Iterator[bytes | str]:
        """Give what workers say, as it comes."""
        while True:
            found = self._heard.get()
            if found is None:
                self._is_over = True
                return
            if isinstance(found, BaseException):
                self._is_over = True
                raise _described(found) from found
            yield from found

    def stop(self, grace: float) -> None:
        """End the job: at once when it is over, after a request and at most the grace when it is not."""
        if not self._is_over and self._thread.is_alive():
            self._roll.stop(grace)
            self._context.cancelJobGroup(self._group)
            self._thread.join(grace)
        self._roll.close()


def _collecting(heard: queue.Queue[Any]) -> Any:
    """Make an accumulator's addition that passes on what is added, in the driver."""
    from pyspark.accumulators import AccumulatorParam, AddingAccumulatorParam

    class Collecting(AccumulatorParam):  # type: ignore[misc]  # pyspark need not be there to check this
        def zero(self, value: list[Any]) -> list[Any]:
            return []

        def addInPlace(self, value1: list[Any], value2: list[Any]) -> list[Any]:  # noqa: N802  # pyspark's
            heard.put(value2)
            return value1

        def __reduce__(self) -> Any:
            return AddingAccumulatorParam, ([],)  # in a worker, a plain list

    return Collecting()


@contextmanager
def connected(engine: Spark) -> Iterator[Any]:
    """Give a `SparkContext`: the one that is there, else one for this run."""
    try:
        import pyspark
    except ImportError as error:
        raise MissingExtra("the Spark engine needs PySpark: pip install 'laketag[spark]'") from error
    if pyspark.SparkContext._active_spark_context is not None:
        context = pyspark.SparkContext.getOrCreate()
        if engine.master not in (None, context.master):
            raise EngineError(
                f"this program has a Spark session at {context.master} already, so that none at "
                f"{engine.master} can be used: leave the master out, or stop the session first"
            )
        yield context
        return
    with launching():
        context = _started(pyspark, engine)
    try:
        yield context
    finally:
        _stop(context)


def _started(pyspark: Any, engine: Spark) -> Any:
    from pyspark.errors import PySparkRuntimeError

    master = engine.master or f"local[{engine.workers * engine.cpus},{engine.tries}]"
    given = {"spark.master": master, **engine.conf}
    try:
        is_submitted = _start_jvm(pyspark, given)
        if is_submitted and engine.master is None:
            del given["spark.master"]  # `spark-submit` has said it
        conf = pyspark.SparkConf().setAll(list(given.items())).setAppName("laketag")
        for key, value in _defaults(engine, conf.get("spark.master")).items():
            conf.setIfMissing(key, value)
        context = pyspark.SparkContext(conf=conf)
    except PySparkRuntimeError as error:
        raise EngineError(
            "Spark does not start: it needs Java 17 or newer; install it (Debian, Ubuntu: "
            "openjdk-17-jre-headless) or set JAVA_HOME"
        ) from error
    except Exception as error:  # py4j's: a class made at run time
        raise EngineError(f"Spark does not start: {_first_line(error)}") from error
    if context.master.startswith("local"):
        context.pythonExec = sys.executable  # else `python3`, whichever that is
        context.setLogLevel("OFF")
    return context


def _stop(context: Any) -> None:
    try:
        context.stop()
    except ConnectionError:  # the JVM is gone; the second time what is left of it here goes
        context.stop()
        kind = type(context)
        kind._gateway = kind._jvm = None  # so that another run starts another one


def _start_jvm(pyspark: Any, given: dict[str, str]) -> bool:
    """Start Spark's JVM where this process has none; returns whether it is that of `spark-submit`."""
    import pyspark.java_gateway as java

    launch: Any = java.launch_gateway  # pyspark gives it no types
    kind = pyspark.SparkContext
    if kind._gateway is None:
        conf = pyspark.SparkConf(loadDefaults=False).setAll(list(given.items()))
        is_here = given["spark.master"].startswith("local")
        if is_here:
            conf.setIfMissing("spark.driver.defaultJavaOptions", _QUICK)
        # Of a Spark on this machine nobody reads the log; what goes wrong is said by exceptions.
        heard = {"stderr": subprocess.DEVNULL} if is_here else {}
        kind._ensure_initialized(gateway=launch(conf, heard), conf=conf)
    return kind._gateway.proc is None


def _defaults(engine: Spark, master: str) -> dict[str, str]:
    cpus = str(engine.cpus)
    defaults = {"spark.task.cpus": cpus, "spark.task.maxFailures": str(engine.tries)}
    if master.startswith("local"):
        return defaults | {
            "spark.driver.host": _LOOPBACK,
            "spark.driver.bindAddress": _LOOPBACK,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
    return defaults | {
        "spark.executor.cores": cpus,
        "spark.executor.instances": str(engine.workers),  # YARN, Kubernetes
        "spark.cores.max": str(engine.workers * engine.cpus),  # a standalone master
    }


def _described(error: BaseException) -> Exception:
    if isinstance(error, ConnectionError) or type(error).__name__ == "Py4JNetworkError":
        return EngineError(
            "Spark's JVM has died; where memory was why give it more, as conf.spark.driver.memory=4g, "
            "and run the same again"
        )
    why = _first_line(error)
    _, is_lost, last = why.partition(" times, most recent failure: ")
    if is_lost:
        return WorkerLost(f"the worker died, as often as Spark tries a task: {last}")
    return EngineError(f"Spark could not do the work: {why}")


def _first_line(error: BaseException) -> str:
    java = getattr(error, "java_exception", None)
    text = str(error if java is None else java.getMessage()).strip()
    if text.startswith("[PYTHON_EXCEPTION]"):
        # Its first line says as much; the last one of the traceback in it is what happened.
        text = [line for line in text.splitlines() if line and not line[0].isspace()][-1]
    return text.splitlines()[0].split(" Consider setting")[0] if text else type(error).__name__
