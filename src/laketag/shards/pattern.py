"""How exported shards are named: `out/{000000..}.tar` is a folder, a number of fixed width and an ending."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from laketag.errors import ShardRefused
from laketag.lake.folder import Folder
from laketag.lake.location import Location

ENDINGS = (".tar", ".parquet")
"""What can be written."""
_OPEN = re.compile(r"([^{}%]*)(?:\{(\d+)\.\.\}|%0?(\d+)d)([^{}%]*)")


@dataclass(frozen=True)
class Pattern:
    """The names of an export's shards."""

    folder: Folder
    """Where they are put."""
    prefix: str
    """What stands before the number."""
    first: int
    """The first number."""
    width: int
    """Its digits, zeros in front."""
    ending: str
    """`.tar` or `.parquet`, with what stands between it and the number."""

    @classmethod
    def of(cls, text: str, storage_options: Mapping[str, str]) -> Pattern:
        """Read a pattern: `FOLDER/PREFIX{000000..}.tar`, `FOLDER/PREFIX%06d.tar`, or just a folder.

        Raises:
            ShardRefused: it is none of these.
        """
        folder, _, name = text.rpartition("/")
        if "{" not in text and "%" not in text and not name.endswith(ENDINGS):
            folder, name = text, "{000000..}.tar"
        found = _OPEN.fullmatch(name)
        if found is None or not name.endswith(ENDINGS):
            raise ShardRefused(
                f"{text!r} does not name shards; give FOLDER/{{000000..}}.tar or FOLDER/{{000000..}}.parquet "
                "(`laketag query --output` writes one table)"
            )
        prefix, first, width, ending = found.groups()
        if text.startswith("/") and not folder:
            folder = "/"
        place = Location.of(folder or ".", storage_options if "://" in text else {})
        return cls(Folder(place), prefix, int(first or 0), len(first) if first else int(width), ending)

    def name(self, index: int) -> str:
        """Name a shard by its place among the others."""
        return f"{self.prefix}{self.first + index:0{self.width}d}{self.ending}"

    def is_name(self, name: str) -> bool:
        """Whether a file might be a shard of this pattern."""
        number = name[len(self.prefix) : len(name) - len(self.ending)]
        return name == f"{self.prefix}{number}{self.ending}" and number.isdigit()

    @property
    def is_tar(self) -> bool:
        """Whether shards are WebDataset tars."""
        return self.ending.endswith(".tar")

    @property
    def index(self) -> str:
        """The name of the index that wids reads."""
        return f"{self.prefix}shardindex{self.ending.removesuffix('.tar')}.json"

    @property
    def state(self) -> Folder:
        """Where an export notes what it has done; tars and Parquet files may share a folder and a prefix."""
        kind = self.ending.removesuffix(".tar").replace(".", "-")  # no reader is to take it for a file
        return self.folder.inner(f".{self.prefix}laketag-export{kind}")

    @property
    def shown(self) -> str:
        """Give the pattern as one writes it."""
        return self.path(f"{self.prefix}{{{self.first:0{self.width}d}..}}{self.ending}")

    def path(self, name: str) -> str:
        """Give a file's whole path."""
        return f"{self.folder.location.uri}/{name}"
