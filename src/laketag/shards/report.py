"""What an import says at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImportReport:
    """The ledger of one import, with the names that `--json` prints."""

    uri: str
    """The dataset."""
    version: int | None
    """Its version now; None where there is no dataset (a dry run, or not one sample)."""
    rows: int
    """Its rows now; in a dry run, those that it would have."""
    rows_added: int
    """Rows that this import added; 0 when all was there already."""
    samples: int
    """Samples that the shards hold."""
    shards: int
    """How many shards were named."""
    complete: bool
    """Whether every shard could be read to its end."""
    columns: tuple[dict[str, str], ...]
    """Name and type of each column."""
    bytes_shards: int
    """Size of the shards."""
    bytes_read: int
    """Bytes of shards read by this import; less where staged work was found."""
    bytes_written: int
    """Bytes written by this import, staged ones included."""
    skipped: tuple[dict[str, str], ...]
    """Members that are no sample, or unusual: shard, member, reason."""
    lost: tuple[dict[str, Any], ...]
    """What could not be read: shard, offset, reason."""
    schema_clashes: tuple[dict[str, str], ...]
    """Columns that could not be named or typed as their source suggests: name, column, reason."""
    seconds: float
    """How long it took."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag import --json` prints it."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()
        }
