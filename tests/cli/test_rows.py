"""What is printed of rows, in the process that prints."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from rich.cells import cell_len

from laketag.cli.rows import print_objects, print_table


def test_times_in_nanoseconds_are_printed_to_the_microsecond(capsys: pytest.CaptureFixture[str]) -> None:
    seen = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns", "UTC"))
    lasted, at = pa.array([1_999, None], pa.duration("ns")), pa.array([1_999, None], pa.time64("ns"))

    many = pa.array([[1_999], None], pa.large_list(pa.duration("ns")))
    inner = pa.array([{"at": [1_999]}, None], pa.struct([("at", pa.list_(pa.time64("ns")))]))
    pair = pa.array([[1_999, 0], None], pa.list_(pa.duration("ns"), 2))
    row = {"seen": seen, "lasted": lasted, "at": at, "many": many, "inner": inner, "pair": pair, "n": [1, 2]}

    print_objects(iter([pa.record_batch(row)]))

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "seen": "2023-11-14T22:13:20.123456+00:00",
            "lasted": "0:00:00.000001",
            "at": "00:00:00.000001",
            "many": ["0:00:00.000001"],
            "inner": {"at": ["00:00:00.000001"]},
            "pair": ["0:00:00.000001", "0:00:00"],
            "n": 1,
        },
        {"seen": None, "lasted": None, "at": None, "many": None, "inner": None, "pair": None, "n": 2},
    ]


def test_columns_of_a_table_are_as_wide_as_a_terminal_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    captions = ["一只猫", "a cat", "猫" * 40]

    print_table(iter([pa.record_batch({"caption": captions, "n": [1, 22, 3]})]))

    lines = capsys.readouterr().out.splitlines()
    assert {cell_len(line) for line in lines} == {60 + 2 + 2}
    assert lines[3] == f"{'猫' * 29} …   3"
