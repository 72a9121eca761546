from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from laketag.cli import progress, text
from laketag.engines.protocol import Progress
from programs import Program, environment


@pytest.mark.slow
def test_a_terminal_gets_a_bar_and_the_report_stays_clean(imported: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        "tag",
        str(imported),
        "--with",
        "fakes:SlowTagger?seconds_per_batch=0.3&batch_size=1",
        "--chunk-rows",
        "1",
    ]
    done = subprocess.Popen(
        [sys.executable, "-m", "laketag", *command], stdout=subprocess.PIPE, stderr=theirs, env=environment()
    )
    os.close(theirs)
    shown = read_all(ours).decode()
    out = done.communicate()[0].decode()

    assert done.returncode == 0, shown
    assert "of 6 rows" in shown
    assert "rows/s" in shown
    assert "left" in shown
    assert out.splitlines()[0].endswith("version 3 -> 4")


def read_all(terminal: int) -> bytes:
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side is closed.
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts)


@pytest.mark.slow
def test_a_short_run_in_a_pipe_prints_no_progress(program: Program, imported: Path) -> None:
    done = program("tag", imported, "--with", "quality")

    assert done.stderr == ""


def test_a_pipe_gets_a_plain_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)

    with progress.shown("tag") as report:
        report(Progress(2_000, 10_000, "rows", "tagging"))
        report(Progress(3_000_000, None, "bytes"))
        report(Progress(4_000_000, 5_000_000, "fragments", "committing"))

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tag: 2,000 of 10,000 rows, tagging"
    assert lines[1].startswith("tag: 3.0 MB")
    # Another stretch of the work has a pace of its own, which is not known yet.
    assert lines[2] == "tag: 4,000,000 of 5,000,000 fragments, committing"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_reason_cannot_command_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")

    with progress.shown("tag") as report:
        report(Progress(1, 2, "rows", "tagging", "failed: 1 no file [/data/x]\x1b[2J"))

    assert "failed: 1 no file [/data/x] [2J" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.6, "1 min"), (3700, "1 h 1 min"), (90061, "1 d 1 h")],
)
def test_a_time_is_shown_in_its_two_largest_units(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(1, "1 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (250_000_000, "250 MB")]
)
def test_a_size_is_shown_in_decimal_units(count: int, shown: str) -> None:
    assert text.size(count) == shown


def test_columns_are_narrowed_before_any_is_left_out() -> None:
    assert text.fitted([10, 60, 60], 80) == [10, 30, 30]
    assert text.fitted([10, 60, 60, 60, 60, 60, 60, 60], 40) == [10, 16]
