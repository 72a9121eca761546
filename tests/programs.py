"""The program in a process of its own, and shards for it to read."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

import laketag

Program = Callable[..., subprocess.CompletedProcess[str]]

SOURCE = Path(laketag.__file__).parent.parent
TESTS = Path(__file__).parent


def environment() -> dict[str, str]:
    """Where the program finds laketag and the tests' fakes."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)]), "COLUMNS": "80"}


def picture(shade: int) -> bytes:
    """Make a small JPEG of one shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_shard(file: Path, samples: dict[str, dict[str, bytes]]) -> None:
    """Write samples, members by extension, as one tar."""
    with tarfile.open(file, "w") as tar:
        for key, members in samples.items():
            for extension, body in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))
