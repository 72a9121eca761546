"""How an import is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from laketag.engines.protocol import Progress
from laketag.errors import JobRefused


@dataclass(frozen=True)
class ImportSettings:
    """How to import."""

    append: bool = False
    """Whether shards may be added to a dataset that exists."""
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

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            JobRefused: an unknown encoding, or no rows in a fragment.
        """
        if self.image_encoding not in ("binary", "blob"):
            raise JobRefused(f"the image encoding {self.image_encoding!r} is unknown; choose binary or blob")
        if self.rows_per_fragment < 1:
            raise JobRefused(f"{self.rows_per_fragment} rows per fragment are too few; give 1 or more")
