"""Objects on a store: what is there, since when, and ranges of bytes; Lance's own layer tells less."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from laketag.errors import ShardError
from laketag.lake.location import Location
from laketag.lake.patience import patiently, what_the_store_said

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEMES = ("s3", "s3a", "gs", "az", "abfss", "tos")
"""Stores whose objects can be listed and read."""
# What object_store counts to its HTTP client and not to the store; Lance takes all in one dict.
_OF_THE_CLIENT = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only"),
    *("pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "proxy_excludes", "timeout", "user_agent"),
)
_OF_LANCE = ("client_max_retries", "client_retry_timeout", "download_retry_count")


@dataclass(frozen=True)
class Object:
    """One object on a store."""

    uri: str
    size: int
    """Bytes."""
    modified: int
    """When it was written, in nanoseconds since 1970."""
    etag: str
    """The store's own mark of these very bytes; nothing where the store gives none."""


def find_object(location: Location, given_up: threading.Event | None = None) -> Object | None:
    """Look an object up; None where there is none. It is tried again for minutes, until it is given up.

    Raises:
        ShardError: the store does not let us, or does not answer.
    """
    root, key = _split(location.uri)
    if not key:
        return None  # a bucket is no object, though some stores describe it as one

    def look() -> Any:
        return _store(root, location).head(key)

    try:
        return _object(root, _asked(look, location, given_up))
    except FileNotFoundError:
        return None


def list_objects(location: Location, given_up: threading.Event | None = None) -> Iterator[Object]:
    """List what lies below a place, whatever its depth. It is tried again for minutes, until it is given up.

    Raises:
        ShardError: the store does not let us, or does not answer.
    """
    root, prefix = _split(location.uri)

    def listed() -> list[Object]:
        pages = _store(root, location).list(f"{prefix}/" if prefix else None)
        return [_object(root, each) for page in pages for each in page]

    yield from _asked(listed, location, given_up)


def read_range(location: Location, start: int, length: int, etag: str = "") -> bytes:
    """Read bytes of an object, in one attempt.

    Raises:
        ShardError: the object changed (its etag is another), or is gone.
        OSError: the store failed; it may not the next time.
    """
    from obstore.exceptions import BaseError, PreconditionError

    root, key = _split(location.uri)
    options: Any = {"range": (start, start + length), **({"if_match": etag} if etag else {})}
    try:
        return bytes(_store(root, location).get(key, options=options).bytes())
    except (PreconditionError, FileNotFoundError) as error:
        raise ShardError(
            f"shard {location.uri} changed while it was read; run the same command again"
        ) from error
    except BaseError as error:
        raise (OSError if _may_pass(error) else ShardError)(_why(location, error)) from error


def _asked(action: Any, location: Location, given_up: threading.Event | None) -> Any:
    from obstore.exceptions import BaseError

    try:
        return patiently(action, _may_pass, given_up=given_up)
    except BaseError as error:
        raise ShardError(_why(location, error)) from error


def _may_pass(error: Exception) -> bool:
    from obstore.exceptions import GenericError

    return isinstance(error, GenericError) and not re.search(r"status code: 4(?!08|29)", str(error))


def _why(location: Location, error: Exception) -> str:
    return f"{location.uri} cannot be read: {what_the_store_said(error)}"


def _object(root: str, found: Any) -> Object:
    modified = int(found["last_modified"].timestamp() * 1e9)
    return Object(f"{root}/{found['path']}", int(found["size"]), modified, found["e_tag"] or "")


def _split(uri: str) -> tuple[str, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key


def _store(root: str, location: Location) -> S3Store:
    return _opened(root, tuple(sorted(location.storage_options.items())))


@lru_cache(maxsize=8)
def _opened(root: str, options: tuple[tuple[str, str], ...]) -> S3Store:
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    config: Any = {key: value for key, value in options if key not in (*_OF_THE_CLIENT, *_OF_LANCE)}
    client: Any = {key: value for key, value in options if key in _OF_THE_CLIENT}
    for key, value in client.items():
        if value in ("true", "false"):
            client[key] = value == "true"
    if root.startswith("tos://"):
        root, config = f"s3://{root[6:]}", _as_s3(root[6:], config)
    try:
        # Attempts are made here, one at a time: a failure in mid-body is one as well.
        once: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=60)}
        given: Any = _provider(config) if root.startswith("s3") else {}
        made: Any = from_url(root, config=config, client_options=client, retry_config=once, **given)
    except BaseError as error:
        raise ShardError(f"{root} cannot be opened: {str(error).splitlines()[0]}") from error
    opened: S3Store = made
    return opened


def _provider(options: Mapping[str, str]) -> dict[str, Any]:
    """Where no key is given, take what renews itself: profiles, roles and programs, which boto3 knows."""
    if any(key.endswith(("access_key_id", "skip_signature")) for key in options):
        return {}
    try:
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}  # object_store itself knows the roles of machines and pods
    try:
        # Asked for anew each minute: boto3 renews them well before they run out.
        return {"credential_provider": Boto3CredentialProvider(ttl=timedelta(minutes=1))}
    except BotoCoreError as error:
        raise ShardError(f"no credentials for the store: {error}") from error
    except ValueError:
        return {}  # boto3 found none


def _as_s3(bucket: str, options: Mapping[str, str]) -> dict[str, str]:
    """Reach TOS by its S3 endpoint, which takes the bucket in the host's name only."""
    names = {key.removeprefix("tos_"): value for key, value in options.items()}
    host = names.pop("endpoint", "").removeprefix("https://").removeprefix("http://")
    if not host:
        raise ShardError(f"tos://{bucket} cannot be opened: give tos_endpoint, as tos-cn-beijing.volces.com")
    token = names.pop("security_token", None)
    return {
        **names,
        **({"session_token": token} if token else {}),
        "endpoint": f"https://{bucket}.{re.sub('^tos-(?!s3-)', 'tos-s3-', host)}",
        "virtual_hosted_style_request": "true",
    }
