"""Where a dataset lies: a URI and the options that its store needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Location:
    """A dataset's URI with its storage options, passed through to Lance."""

    uri: str
    """An absolute path, or `scheme://...`, without a slash at its end."""
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As Lance takes them; they may hold credentials, so they are never printed."""

    @classmethod
    def of(cls, uri: str, storage_options: Mapping[str, str] | None = None) -> Location:
        """Make a local folder absolute, so that workers elsewhere on the machine find it."""
        if "://" not in uri:
            uri = os.path.abspath(os.path.expanduser(uri))
        return cls(uri.rstrip("/"), dict(storage_options or {}))

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.uri
