"""Tasks on a Ray cluster: core actors, one model load each."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cloudpickle

from laketag.engines.answering import packed, value_of
from laketag.engines.crew import Crew, first_line, no_runtime_env
from laketag.engines.launching import launching
from laketag.engines.protocol import Workers, require_some, unheard
from laketag.errors import EngineError, MissingExtra, WrongUsage

T = TypeVar("T")
R = TypeVar("R")

_OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster of our own: only functions, tasks and small answers pass through it."""

_PATIENCE = 5.0
"""Seconds in which a cluster at an address must answer."""


@dataclass(frozen=True)
class Ray:
    """Actors on a Ray cluster: the one that this program is part of, one at an address, or one of our own."""

    workers: int = 1
    """Actors; each loads the models once and takes one task at a time."""
    address: str | None = None
    """Of a cluster (`host:6379`, or `auto`). None: the Ray of this process where it is initialised, else
    a cluster on this machine, for this run, that listens on loopback only."""
    cpus: float = 1
    """CPUs of each worker; that many threads decode."""
    gpus: float = 0
    """GPUs of each worker; a half lets two workers share one."""
    tries: int = 4
    """How often a task is given out before its dying workers end the run."""
    grace: float = 60.0
    """Seconds that workers get to stage what they have when the run is stopped."""
    py_files: tuple[str, ...] = ()
    """Modules, package folders and archives that travel to the workers."""
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    """Ray's runtime environment of the workers: `pip`, `env_vars`, `container`, ..."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: the address is none, or there would be no worker.
        """
        require_some(self.workers)
        if self.address and self.address != "auto" and "://" not in self.address:
            host, _, port = self.address.rpartition(":")
            if not (host and port.isdecimal()):
                raise WrongUsage(
                    f"{self.address!r} is no address of a Ray cluster; give HOST:PORT, or auto; none at all "
                    "means a Ray of this machine alone"
                )

    def run(
        self, fn: Callable[[T], R], tasks: Sequence[T], tell: Callable[[Workers], None] = unheard
    ) -> Generator[R, None, None]:
        """Yield each task's result as it comes; see `Engine.run`.

        Raises:
            MissingExtra: Ray is not installed.
            EngineError: there is no cluster at the address, or this process is part of another one, or its
                workers lack laketag.
        """
        if not tasks:
            return
        pickled, pickled_tasks = packed(fn, self.py_files), [cloudpickle.dumps(task) for task in tasks]
        is_theirs = _imported().is_initialized()
        with connected(self) as ray:
            crew = Crew(ray, self, ray.put(pickled), pickled_tasks, tell, is_theirs)
            try:
                for _ in range(min(self.workers, len(tasks))):
                    crew.hire()
                while crew.is_at_work:
                    for answer in crew.answers():
                        yield value_of(answer, is_elsewhere=True)
            finally:
                crew.stop(self.grace)


@contextmanager
def connected(engine: Ray) -> Iterator[Any]:
    """Give `ray`, connected: to the cluster that is there, else to one for this body."""
    ray = _imported()
    if ray.is_initialized():
        _require_same(ray, engine)
        yield ray
        return
    try:
        with launching():
            _join(ray, engine) if engine.address else _start(ray, engine)
    except Exception as error:  # Ray raises bare ones too, as where a node takes too long to start
        ray.shutdown()
        if engine.runtime_env and isinstance(error, TypeError | ValueError):
            raise no_runtime_env(error) from error
        place = f"at {engine.address}" if engine.address else "on this machine"
        raise EngineError(
            f"there is no Ray cluster {place} ({first_line(error)}); look at `ray status` there"
        ) from error
    try:
        if not engine.address:
            _check_gpus(ray, engine)
        yield ray
    finally:
        ray.shutdown()


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingExtra("the Ray engine needs Ray: pip install 'laketag[ray]'") from error
    return ray


def _require_same(ray: Any, engine: Ray) -> None:
    if engine.address in (None, "auto"):
        return
    there = ray.get_runtime_context().gcs_address
    if engine.address != there:
        raise EngineError(
            f"this program is part of the Ray cluster at {there} already, so that none at {engine.address} "
            "can be used: leave the address out, or call `ray.shutdown()` first"
        )


# What workers print is in Ray's logs: the driver's stdout is for its own result.
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}


def _join(ray: Any, engine: Ray) -> None:
    host, _, port = str(engine.address).removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        # Ray itself would try for minutes before it says that no one is there.
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE):
            pass
    ray.init(address=engine.address, runtime_env=dict(engine.runtime_env) or None, **_QUIET)


def _start(ray: Any, engine: Ray) -> None:
    import ray._private.ray_constants as constants

    clusters = constants.ENABLE_RAY_CLUSTER
    # Ray takes a machine's outer address, and listens there, unless it runs where it allows no clusters.
    constants.ENABLE_RAY_CLUSTER = False
    try:
        ray.init(
            address="local",
            runtime_env=dict(engine.runtime_env) or None,
            num_cpus=math.ceil(engine.workers * engine.cpus),
            num_gpus=None if engine.gpus else 0,
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
            **_QUIET,
        )
    finally:
        constants.ENABLE_RAY_CLUSTER = clusters


def _check_gpus(ray: Any, engine: Ray) -> None:
    # Workers that no node can ever hold are waited for without end.
    there = ray.cluster_resources().get("GPU", 0)
    if engine.gpus > there:
        raise EngineError(
            f"gpus is {engine.gpus:g} for each worker, and Ray finds {there:g} GPUs on this machine: leave "
            "it out, or give the address of a cluster that has some"
        )
