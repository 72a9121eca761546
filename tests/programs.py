"""The program `laketag`, and shards for it to read."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

import laketag
from laketag.cli.app import app


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Program = Callable[..., Done]

SOURCE = Path(laketag.__file__).parent.parent
TESTS = Path(__file__).parent

# A test run in the background of a shell ignores Ctrl-C, and so would what it starts.
LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from laketag.cli.app import main; main()"
)


def environment() -> dict[str, str]:
    """Where the program finds laketag and the tests' fakes."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(TESTS)]), "COLUMNS": "80"}


def run(*arguments: str | Path) -> Done:
    """Run `laketag` in this process: most tests need no other, which takes most of a second to start."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


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


def wait_until_staged(uri: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a program has staged labels of a dataset."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if any("labels" in str(file) for file in uri.glob("_laketag/**/*") if file.is_file()):
            return
        time.sleep(0.02)
    raise AssertionError(f"nothing was staged: {process.communicate()}")
