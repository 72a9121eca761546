"""`serve`: the gallery as a local web page."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from urllib.parse import quote

from laketag.errors import LaketagError, MissingExtra
from laketag.lake.explaining import explaining
from laketag.lake.location import Location

_NEEDED = ("starlette", "uvicorn")
_HERE = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True)
class Address:
    """Where a gallery listens, and what it asks of readers."""

    host: str = "127.0.0.1"
    port: int = 8321
    """A free one where 0."""
    token: str | None = None
    """What readers must show; made up where the host is not this machine alone."""


@explaining
def serve(
    uri: str | PathLike[str],
    *,
    column: str | None = None,
    address: Address = Address(),
    storage_options: Mapping[str, str] | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Serve pages to look at a dataset, filter, sort and choose; read only, until it is interrupted.

    Args:
        uri: the dataset's.
        column: the one that holds the images, where it is not plain.
        address: where to listen; this machine alone by default.
        storage_options: for the dataset's store, as Lance takes them.
        started: told the address of the first page, with its token, once readers can come.

    Raises:
        DatasetNotFound: there is no dataset.
        ColumnError: it cannot be told which column holds the images.
        LinkBroken: a tar that rows point into is gone, or was changed.
        MissingExtra: starlette or uvicorn is not installed.
        LaketagError: the address cannot be listened on.
    """
    _require_extra()
    import uvicorn

    from laketag.gallery.app import gallery
    from laketag.gallery.cached import CachedDataset

    cached = CachedDataset(Location.of(uri, storage_options), column)
    is_here = _is_loopback(address.host)
    token = address.token or (None if is_here else secrets.token_urlsafe(24))
    with listening(address) as listener:
        app = gallery(cached, _HERE | {_written(address.host)} if is_here else frozenset(), token)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", server_header=False
        )
        port = listener.getsockname()[1]
        # Every address of this machine: readers need a name that leads to one.
        host = socket.gethostname() if address.host in ("0.0.0.0", "::") else _written(address.host)
        started(f"http://{host}:{port}/" + (f"?token={quote(token)}" if token else ""))
        uvicorn.Server(config).run([listener])


def _require_extra() -> None:
    from importlib.util import find_spec

    for package in _NEEDED:
        if find_spec(package) is None:
            raise MissingExtra(
                f"the gallery needs {package}, which is not installed: pip install 'laketag[serve]'"
            )


def listening(address: Address) -> socket.socket:
    """Open the socket that a gallery answers on.

    Raises:
        LaketagError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.create_server((address.host, address.port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LaketagError(
            f"nothing can listen on {address.host} port {address.port} ({reason}); "
            "give another --host or --port, 0 for a free port"
        ) from error
    # asyncio does not know this socket as TCP: every answer would wait 40 ms for its head to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
