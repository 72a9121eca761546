"""What a run of `tag` can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from laketag.engines.protocol import Progress
from laketag.errors import WrongUsage


@dataclass(frozen=True)
class Rows:
    """Which rows to tag. It only narrows: rows left out stay not computed."""

    where: str | None = None
    """A filter in SQL; names are columns, exact-case."""
    limit: int | None = None
    """At most so many rows without labels, the first in the dataset's order."""
    retry_errors: bool = False
    """Run the taggers again on rows that failed."""
    recompute: bool = False
    """Run the taggers on all rows, and replace columns of these names that something else made."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: a limit below 1.
        """
        _require_counts({"--limit": self.limit})

    @property
    def is_whole(self) -> bool:
        """Whether neither a filter nor a limit leaves rows out."""
        return self.where is None and self.limit is None


@dataclass(frozen=True)
class TagSettings:
    """How to tag."""

    column: str | None = None
    """The image column; found by its name or type where None."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Column by role, for taggers that read more than the image."""
    chunk_rows: int | None = None
    """Rows of a chunk; at least 32 batches where None."""
    batch_size: int | None = None
    """Rows of one `predict` call; each tagger's own where None."""
    device: str = "cpu"
    """Where models are loaded: `cpu`, `cuda:0`; several, with commas between them, for as many workers."""
    threads: int | None = None
    """Decoding threads per worker; the cores shared out among the workers where None."""
    max_error_rate: float | None = None
    """Share of the run's rows that may fail, from 0 to 1; where None, any but all of them."""
    commit_every: int | None = None
    """Commit on the way, whenever so many fragments more are finished; once, in the end, where None."""
    slice: tuple[int, int] | None = None
    """(k, n): only the k-th of n parts of the chunks, from 1 on, so that n machines share a job."""
    stage_only: bool = False
    """Compute and stage, and leave the commit to another run."""
    commit_only: bool = False
    """Commit what is staged, and compute nothing."""
    dry_run: bool = False
    """Plan, and time a sample of rows; write nothing."""
    price_per_hour: float | None = None
    """Of all that the run occupies, in any currency: a dry run reckons the cost."""
    progress: Callable[[Progress], None] | None = None
    """Called now and then, from another thread or from this one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: a number out of its range, or settings that exclude each other.
        """
        if self.stage_only and self.commit_only:
            raise WrongUsage("--stage-only and --commit-only leave nothing to do; give one of them")
        if self.stage_only and self.commit_every:
            raise WrongUsage("--stage-only commits nothing, so --commit-every has no meaning; leave one out")
        if self.slice is not None and not 1 <= self.slice[0] <= self.slice[1]:
            k, n = self.slice
            raise WrongUsage(f"--slice is {k}/{n}; give 1/{max(n, 1)} to {max(n, 1)}/{max(n, 1)}")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise WrongUsage(f"--max-error-rate is {self.max_error_rate}; give a share from 0 to 1")
        _require_counts(
            {
                "--chunk-rows": self.chunk_rows,
                "--batch-size": self.batch_size,
                "--threads": self.threads,
                "--commit-every": self.commit_every,
            }
        )

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, one by one."""
        return tuple(name.strip() for name in self.device.split(","))

    @property
    def part(self) -> str:
        """The slice as one word: `3of64`, or `all`."""
        return "all" if self.slice is None else f"{self.slice[0]}of{self.slice[1]}"


def _require_counts(given: Mapping[str, int | None]) -> None:
    for name, number in given.items():
        if number is not None and number < 1:
            raise WrongUsage(f"{name} is {number}; give a whole number from 1 on")
