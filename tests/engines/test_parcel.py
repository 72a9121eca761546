"""Files that travel along lie in a folder of the worker's, and go with it, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WORKER = """
import sys
sys.path[:0] = {path!r}
from laketag.engines.parcel import Parcel
Parcel.of([{module!r}]).unpack()
print(sys.path[0], flush=True)
sys.stdin.read()
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a worker that has unpacked, with its temporary files in a folder; give where it did."""
    program = WORKER.format(path=sys.path, module=str(folder / "along.py"))
    worker = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    unpacked = Path(worker.stdout.readline().strip())
    os.utime(unpacked, (0, 0))  # as if it had been there for long
    return worker, unpacked


def test_what_killed_workers_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "along.py").write_text("")
    (killed, left), (alive, kept) = start(tmp_path), start(tmp_path)
    killed.kill()
    killed.communicate()

    following, its = start(tmp_path)
    there = [each.exists() for each in (left, kept, its)]
    for worker in (alive, following):
        worker.communicate()

    assert there == [False, True, True]
    assert [each.name for each in tmp_path.iterdir()] == ["along.py"]
