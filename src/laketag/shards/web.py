"""Shards at http(s) addresses: what is there, and ranges of bytes."""

from __future__ import annotations

import base64
import http.client
import re
import ssl
import string
import threading
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from laketag.errors import ShardError, ShardNotFound, ShardRefused
from laketag.lake.patience import patiently
from laketag.shards.shard import Shard

SCHEMES = ("http", "https")
_TIMEOUT = 30.0
_NOTHING_THERE = http.client.REQUESTED_RANGE_NOT_SATISFIABLE
"""What is said of any range of an empty file, and of one beyond the end of a file that has shrunk."""


def clean(address: str) -> str:
    """Leave out the user's name and password, and the query, which may be a signature."""
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def find(address: str, given_up: threading.Event | None = None) -> Shard:
    """Look a shard up. It is tried again for minutes, until it is given up.

    Raises:
        ShardNotFound: there is none.
        ShardRefused: the server gives no ranges.
        ShardError: the server does not let us, or does not answer.
    """
    # A GET, not a HEAD: an address is signed for one or the other.
    try:
        _, headers, status = patiently(
            lambda: _get(address, 0, 1), lambda error: isinstance(error, OSError), given_up=given_up
        )
    except OSError as error:
        raise ShardError(f"{error}; look at the address and the server, and run the same again") from error
    size = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    if status not in (http.client.PARTIAL_CONTENT, _NOTHING_THERE) or size is None:
        raise ShardRefused(
            f"{clean(address)}: the server gives no ranges of bytes; download the shard and name the file"
        )
    modified = _in_nanoseconds(headers.get("Last-Modified", ""))
    return Shard(clean(address), address, int(size[1]), modified, headers.get("ETag", ""))


def read_range(shard: Shard, start: int, length: int) -> bytes:
    """Read bytes of a shard, in one attempt.

    Raises:
        ShardError: the shard changed, or the server does not let us.
        OSError: the server failed; it may not the next time.
    """
    body, headers, status = _get(shard.path, start, length)
    if status != http.client.PARTIAL_CONTENT or headers.get("ETag", "") != shard.etag:
        raise ShardError(f"shard {shard.url} changed while it was read; run the same command again")
    if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise ShardError(
            f"{shard.url}: the server gives other bytes than asked for; download the shard and name the file"
        )
    return body


def _in_nanoseconds(date: str) -> int:
    try:
        return int(parsedate_to_datetime(date).timestamp() * 1e9)
    except ValueError:
        return 0  # it is no date; the size and the etag tell a shard, too


def _get(address: str, start: int, length: int) -> tuple[bytes, Any, int]:
    request = _request(address)
    request.add_header("Range", f"bytes={start}-{start + length - 1}")
    shown = clean(address)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            # Not more than was asked for: a server without ranges would send the whole shard.
            announced = min(length, answer.length or 0)
            found = answer.read(length)
            # Told how much to read, Python takes a connection that ends in mid-answer for the end.
            if len(found) < announced:
                raise OSError(f"{shown} cannot be read: the connection ended in mid-answer")
            return found, answer.headers, answer.status
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _NOTHING_THERE:
                return b"", error.headers, error.code
            if error.code == http.client.NOT_FOUND:
                raise ShardNotFound(
                    f"there is no shard {shown}; check the address, or leave it out"
                ) from error
            if error.code < 500 and error.code not in (408, 429):
                raise ShardError(
                    f"{shown} cannot be read: {error.code} {error.reason}; a signature may have run out"
                ) from error
            raise OSError(f"{shown} cannot be read: {error.code} {error.reason}") from error
    except (http.client.HTTPException, urllib.error.URLError) as error:
        why = getattr(error, "reason", error)
        # These are the same the next time.
        is_lasting = isinstance(error, http.client.InvalidURL) or isinstance(why, ssl.CertificateError)
        raise (ShardError if is_lasting else OSError)(f"{shown} cannot be read: {why}") from error


def _request(address: str) -> urllib.request.Request:
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    # Blanks and letters of other scripts are escaped; what is escaped already stays as it is.
    path, query = (quote(each, safe=string.punctuation) for each in (parts.path, parts.query))
    request = urllib.request.Request(urlunsplit((parts.scheme, host, path, query, "")))
    if at:
        word = base64.b64encode(unquote(user).encode()).decode()
        # It must not follow a redirection to another host.
        request.add_unredirected_header("Authorization", f"Basic {word}")
    return request
