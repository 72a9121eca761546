"""The actors of a run on Ray: hired, given tasks, replaced when they die, told to stop."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laketag.engines.answering import Answer, elsewhere, heard
from laketag.engines.protocol import Workers
from laketag.errors import EngineError, TaskFailed, WorkerLost

if TYPE_CHECKING:
    from laketag.engines.ray import Ray

_LOOK_AGAIN = 5.0
"""Seconds between two looks at what nodes there are, while workers are awaited."""


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
class Crew:
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
            raise no_runtime_env(error) from error
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
                raise no_runtime_env(error) from error
            except self.ray.exceptions.RayError as error:
                self._replace(ref, first_line(error))
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


def no_runtime_env(error: Exception) -> EngineError:
    """Say that Ray cannot make the workers' runtime environment."""
    return EngineError(f"the workers' runtime_env cannot be made: {' '.join(str(error).split())}")


def first_line(error: Exception) -> str:
    """Shorten one of Ray's messages, which may be a whole traceback."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
