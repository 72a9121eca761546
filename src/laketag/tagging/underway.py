"""A run under way: its tasks finish one by one, and what they staged is committed, in the end or earlier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from laketag.engines.protocol import Engine, Workers
from laketag.errors import CommitError, Interrupted
from laketag.lake.reading import RowRange
from laketag.lake.sharing import on_shared_disk
from laketag.taggers.rows import Stats
from laketag.tagging.committing import Outcome, commit_done, commit_rest
from laketag.tagging.preparing import Run
from laketag.tagging.report import count_reasons
from laketag.tagging.settings import TagSettings
from laketag.tagging.speed import Speed, speed_of
from laketag.tagging.task import Done, Task
from laketag.tagging.watching import watching

_REASONS = 3  # in a line of progress; the report has them all
_MANY_TASKS = 1000  # each is small beside all of them, so that finished ones tell well enough how far it is


@dataclass
class Total:
    """What finished tasks came to, all together; it does not grow with their number."""

    tasks: int = 0
    seen: int = 0
    """Rows that the run selects."""
    computed: int = 0
    """Rows that a tagger was run on."""
    bytes_read: int = 0
    bytes_written: int = 0
    staged: int = 0
    """Parts of staged files."""
    is_whole: bool = True
    """False where a worker was told to stop."""
    stats: Stats = field(default_factory=Stats)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows that failed, by tagger and reason."""

    def add(self, one: Done) -> None:
        """Count a finished task."""
        self.tasks += 1
        self.seen += one.seen
        self.computed += one.computed
        self.bytes_read += one.bytes_read
        self.bytes_written += one.bytes_written
        self.staged += sum(map(len, one.parts))
        self.is_whole &= one.is_whole
        self.stats = self.stats.plus(one.stats)
        count_reasons(self.errors, one.errors)


@dataclass
class UnderWay:
    """A run with what has become of it so far."""

    run: Run
    settings: TagSettings
    outcome: Outcome = field(init=False)
    """What the commits so far came to."""
    total: Total = field(default_factory=Total)
    """What the finished tasks came to."""
    waiting: list[Done] = field(default_factory=list)
    """What those of them said that are not committed yet."""
    held: list[Done] = field(default_factory=list)
    """Likewise, of those that are committed in the end only."""
    unfinished: Counter[int] = field(init=False)
    """Tasks that each fragment still waits for."""
    committed: int = 0
    """Rows committed on the way."""
    finished: int = 0
    """Fragments finished since the last commit."""
    staged_before: int = field(init=False)
    """Rows that an earlier, broken run left."""
    workers: Workers = field(default_factory=Workers)
    """How the engine's workers fare."""

    def __post_init__(self) -> None:
        self.outcome = Outcome(self.run.compute.version)
        self.staged_before = sum(part.rows for index in self.run.staged[:1] for part in index.parts)
        self.unfinished = Counter(fragment for task in self.run.tasks for fragment in task.fragments)

    def compute(self, fn: Callable[[Task], Done], engine: Engine) -> None:
        """Run all tasks, and commit on the way where `commit_every` says so.

        Raises:
            Interrupted: Ctrl-C, or a worker was told to stop; the work so far is staged.
            TooManyErrors: of a commit on the way.
        """
        report = self.settings.progress
        try:
            with (
                watching(self._rows_so_far, self.run.look.missing, report, self._how_it_goes),
                on_shared_disk(
                    self.run.compute.location, self.run.jobs[0].digest, fn, part=self.settings.part
                ) as guarded,
                closing(engine.run(guarded, self.run.tasks, self._hear)) as finished,
            ):
                for one in finished:
                    self._add(one)
        except KeyboardInterrupt:
            raise Interrupted(self._stopped()) from None
        if not self.total.is_whole:
            raise Interrupted(f"a worker was told to stop, so the run {self._stopped()}")

    def commit(self) -> None:
        """Commit all that is staged and not committed yet.

        Raises:
            CommitError: no row that was tagged is there any more.
            TooManyErrors: more rows failed than `max_error_rate`.
        """
        self.outcome = self.outcome.plus(
            commit_rest(self.run, [*self.held, *self.waiting], self.settings, self.outcome.own)
        )
        has_staged = self.settings.commit_only or self.total.staged
        if has_staged and not self.outcome.fragments:
            raise CommitError(
                f"every row of {self.run.compute.location.uri} that was tagged is gone: others deleted them "
                "or overwrote the dataset; their labels stay staged until rows of another version are "
                "committed: `laketag restore` and the same command bring them back"
            )
        self.held.clear()
        self.waiting.clear()

    @property
    def speed(self) -> Speed | None:
        """Where the time of the finished tasks went."""
        return speed_of(self.total.stats)

    def rows(self) -> int:
        """Count the rows that are staged or committed."""
        return self.committed + self.run.compute.staging(0).rows_staged()

    def _rows_so_far(self) -> int:
        """Count them for people; called from another thread."""
        if len(self.run.tasks) < _MANY_TASKS:
            return self.rows()
        # A list of what is staged would cost a thousand requests where there are a million files.
        return self.staged_before + self.total.computed

    def _add(self, one: Done) -> None:
        self.total.add(one)
        (self.held if self._outdates(one) else self.waiting).append(one)
        for fragment in one.fragments:
            self.unfinished[fragment] -= 1
            self.finished += self.unfinished[fragment] == 0
        if self.settings.commit_every and self.finished >= self.settings.commit_every:
            self.outcome = self.outcome.plus(
                commit_done(self.run, self.waiting, self.settings, self.outcome.own)
            )
            self.committed += sum(one.computed for one in self.waiting)
            self.waiting.clear()
            self.finished = 0

    def _outdates(self, one: Done) -> bool:
        """Whether a task tried rows again of which a broken run staged that they failed.

        What that run staged is committed in the end, when others no longer read it: committed before it, the
        newer labels would be taken for the older ones.
        """
        if not self.run.compute.retry_errors:
            return False
        return any(
            index.over(RowRange(0, part.source, part.start, part.stop))
            for index, parts in zip(self.run.staged, one.parts, strict=True)
            for part in parts
        )

    def _how_it_goes(self) -> str:
        """Tell failures and speed of the finished tasks; called from another thread."""
        errors: Counter[str] = Counter()
        for (_, reason), rows in list(self.total.errors.items()):
            errors[reason] += rows
        parts = [speed.line] if (speed := self.speed) else []
        parts.append(self.workers.line)
        if errors:
            reasons = ", ".join(f"{rows:,} {reason}" for reason, rows in errors.most_common(_REASONS))
            parts.append(f"failed: {reasons}{', ...' if len(errors) > _REASONS else ''}")
        return "; ".join(parts)

    def _hear(self, workers: Workers) -> None:
        self.workers = workers

    def _stopped(self) -> str:
        kept = f"{self.rows()} of {self.run.look.missing} rows are staged"
        if self.committed:
            kept += f", {self.committed} of them committed"
        return f"stopped; {kept}, and the same command goes on from there"
