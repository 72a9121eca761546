"""One shard: where a tar is, and how it is told from another that lay there before or lies there later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from laketag.lake.location import Location


@dataclass(frozen=True)
class Shard:
    """One tar."""

    url: str
    """What `__url__` says: absolute, without credentials or signatures."""
    path: str = field(repr=False)
    """Where it is read; an address may carry a signature, so it is never printed."""
    size: int
    """Bytes."""
    modified: int
    """When it was last written, in nanoseconds since 1970; with the size, it tells whether it is the same."""
    etag: str = ""
    """A store's own mark of these very bytes, where there is one."""
    options: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Its store's options."""

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return "://" not in self.path

    @property
    def place(self) -> Location:
        """Where it is read, with the options of its store."""
        return Location.of(self.path, self.options)

    def is_still(self, other: Shard) -> bool:
        """Whether the other, found in the same place, holds the same bytes."""
        return (self.size, self.modified, self.etag) == (other.size, other.modified, other.etag)
