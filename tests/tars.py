"""Tars made on the spot: whole ones, and odd ones that Python's own `tarfile` would not write."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Members = Sequence[tuple[str, bytes]]
END = bytes(1024)


def tar_bytes(
    members: Iterable[tuple[str, bytes]], *, kind: int = tarfile.USTAR_FORMAT, ended: bool = True
) -> bytes:
    """A tar of files; without its end-of-archive blocks where it is not `ended`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
        size = tar.offset
    return buffer.getvalue()[:size] + (END if ended else b"")


def header(name: bytes, size: int = 0, kind: bytes = b"0", *, size_field: bytes | None = None) -> bytes:
    """One ustar header, with any size and type."""
    field = size_field if size_field is not None else b"%011o\0" % size
    block = bytearray(512)
    block[:100] = name.ljust(100, b"\0")
    block[100:108] = block[108:116] = block[116:124] = b"0000644\0"
    block[124:136] = field
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(body: bytes) -> bytes:
    """A body as a tar holds it."""
    return body + bytes(-len(body) % 512)


def sample(key: str, values: Mapping[str, Any] | None = None, **members: bytes) -> Members:
    """One sample's members: a picture's bytes, JSON where values are given, and what else is given."""
    found = [(f"{key}.jpg", b"picture of " + key.encode())]
    if values is not None:
        found.append((f"{key}.json", json.dumps(values).encode()))
    return [*found, *((f"{key}.{extension}", body) for extension, body in members.items())]


def write_tar(path: Path, *samples: Members, ended: bool = True) -> Path:
    """Write a shard; gzip where its name says so."""
    whole = tar_bytes([member for each in samples for member in each], ended=ended)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(whole) if path.name.endswith("gz") else whole)
    return path
