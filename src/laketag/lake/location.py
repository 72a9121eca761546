"""Where a dataset lies: a URI and the options that its store needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from laketag.errors import DatasetError, WrongUsage

# A store's bad minute must not end a run: requests are tried again for five minutes. Lance alone gives up
# after three to five seconds.
_PATIENT = {"client_max_retries": "30", "client_retry_timeout": "300"}
_TAKE_PATIENCE = ("s3", "s3a", "s3+ddb", "gs", "az", "abfss")


@dataclass(frozen=True)
class Location:
    """A dataset's URI with its storage options, passed through to Lance."""

    uri: str
    """An absolute path, or `scheme://...`, without a slash at its end."""
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As Lance takes them; they may hold credentials, so they are never printed."""

    @classmethod
    def of(cls, uri: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None) -> Location:
        """Make a local folder absolute, so that workers elsewhere on the machine find it; `file:///` is one.

        Raises:
            WrongUsage: the address is empty, or is not UTF-8.
            DatasetError: it holds credentials.
        """
        uri = os.fspath(uri)
        if not uri:  # as an unset variable of a shell is: it must not mean the current folder
            raise WrongUsage(
                "the dataset's address is empty; give a folder, or one as s3://bucket/name.lance"
            )
        if not is_utf8(uri):
            raise WrongUsage(f"the dataset's address is {uri!r}, which is not UTF-8; rename the folder")
        given = dict(storage_options or {})
        if uri.startswith("file:///"):
            uri = unquote(uri.removeprefix("file://"))
        if "://" not in uri:
            return cls(os.path.abspath(os.path.expanduser(uri)), given)
        made = cls(uri.rstrip("/"), given)
        if made.scheme != "abfss" and "@" in made.uri.partition("://")[2].partition("/")[0]:
            # The address is in messages, reports and process titles.
            raise DatasetError("an address on a store must not hold credentials; give them as options (-o)")
        if made.scheme not in _TAKE_PATIENCE:
            return made
        plain = {"allow_http": "true"} if _is_plain_http(given) else {}
        return cls(made.uri, {**_PATIENT, **plain, **given})

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.uri

    @property
    def scheme(self) -> str:
        """What stands before `://`; nothing for a folder."""
        return "" if self.is_local else self.uri.partition("://")[0].lower()


def is_utf8(text: str) -> bool:
    """Whether a name on a disk is UTF-8: of another encoding, Python has surrogates in it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_plain_http(options: Mapping[str, str]) -> bool:
    # Whoever names an endpoint without TLS means it.
    names = ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url")
    return any(options.get(name, "").startswith("http://") for name in names)
