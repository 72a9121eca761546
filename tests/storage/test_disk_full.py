"""A disk that fills up: one clear line, the version as it was, and later the same command goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lance
import pytest

from programs import environment
from tars import write_tar

pytestmark = pytest.mark.slow

# In namespaces of its own, where anyone may mount: a disk of 8 MB, which later gets larger.
SCRIPT = """
set -u
mount -t tmpfs -o size=8m tmpfs "$DISK"
say() { echo "$1" >> "$OUT/said"; }
$LAKETAG import "$OUT/small.tar" "$DISK/dataset" > "$OUT/1.out" 2>&1; say $?
$LAKETAG import --append "$OUT/large.tar" "$DISK/dataset" > "$OUT/2.out" 2>&1; say $?
$LAKETAG show "$DISK/dataset" --json > "$OUT/3.out" 2>&1; say $?
mount -o remount,size=200m "$DISK"
$LAKETAG import --append "$OUT/large.tar" "$DISK/dataset" --json > "$OUT/4.out" 2> "$OUT/4.err"; say $?
cp -r "$DISK/dataset" "$OUT/dataset"
"""


def test_a_full_disk_does_no_harm_and_the_same_command_goes_on(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    allowed = (
        unshare
        and not subprocess.run(
            [unshare, "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", tmp_path],
            check=False,
            capture_output=True,
        ).returncode
    )
    if not allowed:
        if os.environ.get("CI") == "true":
            pytest.fail("this machine lets nobody mount a small disk: allow user namespaces")
        pytest.skip("this machine lets nobody mount a small disk")
    (tmp_path / "disk").mkdir()
    write_tar(tmp_path / "small.tar", *([(f"{i}.jpg", os.urandom(1000))] for i in range(10)))
    write_tar(tmp_path / "large.tar", *([(f"n{i}.jpg", os.urandom(1_000_000))] for i in range(30)))
    variables = environment() | {
        "DISK": str(tmp_path / "disk"),
        "OUT": str(tmp_path),
        "LAKETAG": f"{sys.executable} -m laketag",
    }

    subprocess.run(
        [str(unshare), "--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT], env=variables, check=True
    )

    assert (tmp_path / "said").read_text().split() == ["0", "1", "0", "0"]
    said = (tmp_path / "2.out").read_text().strip()
    assert said.startswith(f"laketag: {tmp_path}/disk/dataset cannot be read or written (No space left")
    assert len(said.splitlines()) == 1
    shown = json.loads((tmp_path / "3.out").read_text())
    assert (shown["version"], shown["rows"]) == (1, 10)
    assert json.loads((tmp_path / "4.out").read_text())["rows"] == 40
    dataset = lance.dataset(str(tmp_path / "dataset"))
    dataset.validate()
    assert dataset.count_rows() == 40
