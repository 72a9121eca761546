"""The examples of the docs: what stands in a page can be run, as it stands and in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """A block of a page that can be run."""

    language: str
    """`bash` or `python`."""
    text: str

    @property
    def file(self) -> str | None:
        """The file that the example is, where its first line names one."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


def examples(page: Path) -> list[Example]:
    """List the examples of a page."""
    return [
        Example(*found)
        for found in re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]


def run(page: Path, folder: Path, variables: Mapping[str, str]) -> str:
    """Run the examples of a page in a folder; gives what they printed.

    Raises:
        RuntimeError: one failed.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name, command in {"laketag": f"{sys.executable} -m laketag", "python": sys.executable}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
    found = {**variables, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    return "".join(_ran(example, folder, found) for example in examples(page))


def _ran(example: Example, folder: Path, variables: Mapping[str, str]) -> str:
    if example.file:
        (folder / example.file).write_text(example.text)
        return ""
    command = ["bash", "-e"] if example.language == "bash" else [sys.executable, "-"]
    done = subprocess.run(
        command,
        input=example.text,
        capture_output=True,
        text=True,
        cwd=folder,
        env=dict(variables),
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{example.text}\n{done.stdout}\n{done.stderr}")
    return done.stdout
