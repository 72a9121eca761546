"""Tasks on a Ray cluster: core actors, one model load each."""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cloudpickle

from laketag.engines.answering import Answer, elsewhere, heard, packed, value_of
from laketag.engines.launching import launching
from laketag.engines.protocol import Workers, require_some, unheard
from laketag.errors import EngineError, MissingExtra, TaskFailed, WorkerLost, WrongUsage

T = TypeVar("T")
R = TypeVar("R")

_OBJECT_STORE_BYTES = 128 << 20
"""Of a cluster of our own: only functions, tasks and small answers pass through it."""

_PATIENCE = 5.0
"""Seconds in which a cluster at an address must answer."""

_LOOK_AGAIN = 5.0
"""Seconds between two looks at what nodes there are, while workers are awaited."""


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
            crew = _Crew(ray, self, ray.put(pickled), pickled_tasks, tell, is_theirs)
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
            raise _no_runtime_env(error) from error
        place = f"at {engine.address}" if engine.address else "on this machine"
        raise EngineError(
            f"there is no Ray cluster {place} ({_first_line(error)}); look at `ray status` there"
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


def _actor(ray: Any) -> Any:
    """Make the actor's class. It travels by value, which a class inside a function does: see `elsewhere`."""

    class Worker:
        def __init__(self, answer: Callable[[bytes, bytes], bytes | str]) -> None:
            self.answer = answer
            with suppress(ImportError):  # without laketag, the first answer will say so
                from laketag.engines import stopping

                stopping.listen()

        def who(self) -> str:
            import os
            import socket

            return f"process {os.getpid()} on {socket.gethostname()}"

        def run(self, pickled: bytes, task: bytes) -> bytes | str:
            return self.answer(pickled, task)

        def stop(self) -> None:
            from laketag.engines import stopping

            stopping.request()

    # Of their own: a call of `stop` must not wait for the end of the `run` that it stops.
    return ray.remote(concurrency_groups={"control": 1})(Worker)


@dataclass
class _Worker:
    actor: Any
    who: str = ""
    index: int = -1


@dataclass
class _Crew:
    """The actors of a run.

    Ray could restart an actor and retry its call by itself. But the call would wait for that very
    actor, perhaps for a node that never comes back, while others idle; so a dead worker is replaced
    here, and its task goes to whoever is free first.
    """

    ray: Any
    engine: Ray
    fn: Any
    tasks: list[bytes]
    tell: Callable[[Workers], None]
    is_theirs: bool
    """Whether the Ray is the program's own; one that is not was given the runtime environment as a whole."""
    coming: dict[Any, _Worker] = field(default_factory=dict)
    busy: dict[Any, _Worker] = field(default_factory=dict)
    idle: list[_Worker] = field(default_factory=list)
    lost: int = 0
    stillborn: int = 0
    """Of these, workers that died before they came, since the last one that did come."""
    retried: int = 0
    lacking: str = ""
    """What an awaited worker needs, and no node has."""
    looked: float = -math.inf
    """When that was last found out."""
    waiting: deque[int] = field(init=False)
    tried: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = deque(range(len(self.tasks)))
        self.tried = [0] * len(self.tasks)
        options: dict[str, Any] = {"num_cpus": self.engine.cpus, "num_gpus": self.engine.gpus}
        if self.is_theirs and self.engine.runtime_env:
            options["runtime_env"] = dict(self.engine.runtime_env)
        try:
            self.kind = _actor(self.ray).options(**options)
        except (TypeError, ValueError) as error:
            raise _no_runtime_env(error) from error
        self.answer = elsewhere("laketag.engines.answering:say")

    @property
    def is_at_work(self) -> bool:
        """Whether tasks wait or are being done."""
        return bool(self.waiting or self.busy)

    def hire(self) -> None:
        """Ask for a worker. It gets a task when it is there: on a cluster that grows, that takes a while."""
        self._call(_Worker(self.kind.remote(self.answer)))

    def _call(self, worker: _Worker) -> None:
        self.coming[worker.actor.who.remote()] = worker
        self._tell()

    def answers(self) -> Iterator[Answer]:
        """Wait for workers; give tasks to those that came or answered, replace those that died."""
        patience = _LOOK_AGAIN if self.coming else None
        done, _ = self.ray.wait([*self.coming, *self.busy], num_returns=1, timeout=patience)
        if not done:
            self._tell()
        for ref in done:
            try:
                said = self.ray.get(ref)
            except self.ray.exceptions.RayTaskError as error:
                raise TaskFailed(f"a worker's answer could not be read: {error.cause}") from error
            except self.ray.exceptions.RuntimeEnvSetupError as error:
                raise _no_runtime_env(error) from error
            except self.ray.exceptions.RayError as error:
                self._replace(ref, _first_line(error))
                continue
            if ref in self.coming:
                worker = self.coming.pop(ref)
                worker.who = said
                self.stillborn = 0
                self._give(worker)
                continue
            answer = heard(said)
            if answer.is_cut:
                self._replace(ref, str(answer.error or "it was told to stop"))
                continue
            self._give(self.busy.pop(ref))
            yield answer

    def _give(self, worker: _Worker) -> None:
        if not self.waiting:
            self.idle.append(worker)
        else:
            worker.index = self.waiting.popleft()
            self.retried += self.tried[worker.index] > 0
            self.tried[worker.index] += 1
            self.busy[worker.actor.run.remote(self.fn, self.tasks[worker.index])] = worker
        self._tell()

    def _replace(self, ref: Any, why: str) -> None:
        self.lost += 1
        if worker := self.coming.pop(ref, None):
            self.stillborn += not worker.who
            if self.stillborn >= self.engine.tries and not (self.busy or self.idle):
                raise WorkerLost(f"no worker could be started: {why}")
        else:
            worker = self.busy.pop(ref)
            self.ray.kill(worker.actor)
            if self.tried[worker.index] >= self.engine.tries:
                raise WorkerLost(f"the worker died ({worker.who}): {why}")
            self.waiting.appendleft(worker.index)
        if self.waiting and self.idle:
            # It may be gone, too, with the node of the other: before it gets a task it is to say who it is.
            self._call(self.idle.pop())
        elif len(self.coming) < len(self.waiting):
            self.hire()
        self._tell()

    def _tell(self) -> None:
        alive = len(self.busy) + len(self.idle)
        if self.coming and time.monotonic() - self.looked >= _LOOK_AGAIN:
            self.lacking, self.looked = self._lacking(), time.monotonic()
        lacking = self.lacking if self.coming else ""
        self.tell(Workers(alive, self.lost, self.retried, len(self.coming), lacking))

    def _lacking(self) -> str:
        """Ask Ray, which costs a request, so that it is not asked for each worker."""
        wanted = {"CPU": self.engine.cpus, "GPU": self.engine.gpus}
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            return ""
        return " and ".join(f"{amount:g} {name}" for name, amount in wanted.items() if amount)

    def stop(self, grace: float) -> None:
        """End every worker: at once when it is idle, after a request and at most the grace when it is not."""
        for worker in self.busy.values():
            worker.actor.stop.options(concurrency_group="control").remote()
        with suppress(self.ray.exceptions.RayError):
            if self.busy:
                self.ray.wait(list(self.busy), num_returns=len(self.busy), timeout=grace)
        for worker in [*self.coming.values(), *self.busy.values(), *self.idle]:
            self.ray.kill(worker.actor)


def _no_runtime_env(error: Exception) -> EngineError:
    return EngineError(f"the workers' runtime_env cannot be made: {' '.join(str(error).split())}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
