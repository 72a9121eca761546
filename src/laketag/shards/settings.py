"""How an import and an export are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from laketag.engines.protocol import Progress
from laketag.errors import WrongUsage
from laketag.lake.dataset import require_names


@dataclass(frozen=True)
class ImportSettings:
    """How to import."""

    append: bool = False
    """Whether shards may be added to a dataset that exists."""
    link: bool = False
    """Whether rows point into the tars instead of holding copies of the images."""
    image_encoding: str = "binary"
    """How new image columns are stored: `binary`, or `blob` (Lance's blob v2)."""
    rows_per_fragment: int = 100_000
    """A fragment has at most so many rows; 2 GiB end it as well."""
    shard_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Options of the shards' store, as Lance takes them; where there are none, the dataset's."""
    dry_run: bool = False
    """Read and report, and write nothing."""
    progress: Callable[[Progress], None] | None = None
    """Called now and then."""
    tell: Callable[[str], None] | None = None
    """Called with one line, from another thread, when where the shards lie stops answering, and when it
    answers again; the dataset's own store is `watch_store`'s."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: an unknown encoding, or no rows in a fragment.
        """
        if self.image_encoding not in ("binary", "blob"):
            raise WrongUsage(f"the image encoding {self.image_encoding!r} is unknown; choose binary or blob")
        if self.rows_per_fragment < 1:
            raise WrongUsage(f"{self.rows_per_fragment} rows per fragment are too few; give 1 or more")


@dataclass(frozen=True)
class ExportSettings:
    """What to export, and how."""

    where: str | None = None
    """A filter; names are columns, written as `show` does."""
    columns: tuple[str, ...] | None = None
    """Only these; all but digests, and in tars vectors, where None."""
    at: int | str | None = None
    """A version's number, or its name; the latest where None."""
    images: bool = True
    """Whether columns of bytes are exported."""
    samples_per_shard: int = 10_000
    """A shard has at most so many samples."""
    bytes_per_shard: int | None = None
    """And at most so many bytes; the rows are read once more to know."""
    shard_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Storage options of the place that shards are written to; the dataset's where empty."""
    progress: Callable[[Progress], None] | None = None
    """Called now and then."""

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            WrongUsage: a shard could hold nothing, or no column is named.
        """
        require_names(self.columns)
        if self.samples_per_shard < 1:
            raise WrongUsage(f"{self.samples_per_shard} samples per shard are too few; give 1 or more")
        if self.bytes_per_shard is not None and self.bytes_per_shard < 1:
            raise WrongUsage(f"{self.bytes_per_shard} bytes per shard are too few; give 1 or more")
