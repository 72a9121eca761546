"""How rows are stored: what every row has, and what becomes of the members that samples bring."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from laketag.lake.dataset import IMAGE_NAMES
from laketag.lake.presence import KEY, URL
from laketag.lake.writing import AS_IT_IS

OFFSET = "__offset__"
ROW_FIELDS = (pa.field(KEY, pa.string()), pa.field(URL, pa.string()), pa.field(OFFSET, pa.int64()))
"""What every row has."""
_COMPRESSED = frozenset(
    (
        *IMAGE_NAMES,
        *("heif", "jxl"),
        *("mp3", "m4a", "flac", "ogg", "opus", "mp4", "webm", "mov", "mkv", "avi"),
        *("npz", "zip"),
    )
)


def storage_metadata(column: str) -> dict[bytes, bytes]:
    """Say how Lance should store a member column."""
    return dict(AS_IT_IS) if column in _COMPRESSED else {}


@dataclass(frozen=True)
class Form:
    """How rows are stored."""

    storage_version: str
    """Lance's file format."""
    rows_per_fragment: int
    """A fragment has at most so many rows; 2 GiB end it as well."""
    new_images_are_blobs: bool
    """Whether image columns that the dataset does not have yet become blobs."""
    blobs: frozenset[str] = frozenset()
    """Member columns that are blobs in the dataset already."""
    links: bool = False
    """Whether images are references into the tars."""
    plain: frozenset[str] = frozenset()
    """Member columns that are plain bytes in the dataset already."""

    def is_linked(self, column: str) -> bool:
        """Whether a member column holds references into the tars."""
        return self.links and column in IMAGE_NAMES

    def is_blob(self, column: str) -> bool:
        """Whether a member column is stored as blobs."""
        is_new_blob = self.new_images_are_blobs and column in IMAGE_NAMES and column not in self.plain
        return column in self.blobs or is_new_blob
