"""Shards made to do harm: names that lead elsewhere, text that is too much, code that wants to run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import lance
import pytest

from here import import_
from laketag.shards import importing
from programs import environment
from tars import END, header, tar_bytes


def write(path: Path, *members: tuple[str, bytes]) -> str:
    path.write_bytes(tar_bytes(members))
    return str(path)


def test_names_that_lead_elsewhere_write_nothing_there(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    names = [
        "/etc/laketag-was-here.jpg",
        "../up.jpg",
        "a/../../up2.jpg",
        "..\\up3.jpg",
        "C:\\up4.jpg",
        "a\0b.jpg",
    ]
    names += ["~/home.jpg", "\n.jpg", "x" * 90 + ".jpg", "$(touch up5).jpg", "_versions/1.jpg"]
    shard = write(tmp_path / "a.tar", *((name, b"x") for name in names))

    report = import_([shard], str(inside / "dataset"))

    assert report.rows + len(report.skipped) == len(names)
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "inside"]
    assert os.listdir(inside) == ["dataset"]
    assert not Path("/etc/laketag-was-here.jpg").exists()
    assert set(os.listdir(inside / "dataset")) == {"_laketag", "_transactions", "_versions", "data"}
    keys = lance.dataset(str(inside / "dataset")).to_table(columns=["__key__"])["__key__"].to_pylist()
    assert "/etc/laketag-was-here" in keys


class Harm:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_no_member_is_run(tmp_path):
    file = tmp_path / "harm"
    harm = pickle.dumps(Harm(file))
    kinds = ("pickle", "pkl", "pyd", "pth", "pt", "npy", "npz", "py", "so", "cls", "json")
    shard = write(tmp_path / "a.tar", *((f"a.{kind}", harm) for kind in kinds))

    report = import_([shard], str(tmp_path / "dataset"))

    assert report.rows == 1
    assert not file.exists()
    [row] = lance.dataset(str(tmp_path / "dataset")).to_table(columns=["pickle", "pth"]).to_pylist()
    assert row == {"pickle": harm, "pth": harm}


HOSTILE_JSON = {
    "deep lists": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "equal keys": b'{"a": 1, "a": "two", "A": 3}',
    "a lone surrogate": b'{"b": "\\ud800", "\\udfff": 1}',
    "not UTF-8": b'{"c": "\xff"}',
    "a huge number": b'{"d": ' + b"9" * 100_000 + b"}",
    "a huge exponent": b'{"e": 1e999999}',
    "odd constants": b'{"f": NaN, "g": -Infinity}',
    "many keys": json.dumps({f"key{i}": i for i in range(20_000)}).encode(),
    "reserved keys": b'{"__key__": 1, "jpg": 2, "": 3, "a.b": 4, "' + b"k" * 10_000 + b'": 5}',
    "nothing": b"",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_a_hostile_json_keeps_its_row_and_its_text(tmp_path, name):
    text = HOSTILE_JSON[name]
    shard = write(
        tmp_path / "a.tar", ("a.jpg", b"A"), ("a.json", text), ("b.jpg", b"B"), ("b.json", b'{"n": 1}')
    )

    report = import_([shard], str(tmp_path / "dataset"))

    rows = lance.dataset(str(tmp_path / "dataset")).to_table().to_pylist()
    assert report.rows == 2
    assert [row["__key__"] for row in rows] == ["a", "b"]
    # Text that is not UTF-8 has a column of its own.
    assert rows[0]["json_bytes"] == text if rows[0]["json"] is None else rows[0]["json"].encode() == text
    assert name == "many keys" or rows[1]["n"] == 1


@pytest.mark.slow
def test_a_json_of_a_hundred_megabytes_is_kept_in_bounded_memory(tmp_path):
    text = b'{"a": [' + b"1," * (50 << 20) + b"1]}"
    shard = write(tmp_path / "a.tar", ("a.jpg", b"A"), ("a.json", text))

    report = importing.import_([shard], str(tmp_path / "dataset"))

    assert report.rows == 1
    assert "longer than" in report.skipped[0]["reason"]
    # Of the largest process that was started: a Python list of it would take gigabytes.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20
    table = lance.dataset(str(tmp_path / "dataset")).to_table(columns=["json"])
    assert table["json"][0].as_py() == text.decode()


@pytest.mark.slow
def test_many_tiny_members_are_walked_in_bounded_memory(tmp_path):
    path = tmp_path / "a.tar"
    with gzip.open(path, "wb", compresslevel=1) as file:
        block = b"".join(header(b"%d.jpg" % i) for i in range(1000))
        for _ in range(250):
            file.write(block)
        file.write(END)

    program = (
        "import resource, sys\n"
        "from contextlib import closing\n"
        "from laketag.shards.streams import open_local\n"
        "from laketag.shards.tar import walk\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with closing(open_local(sys.argv[1])) as stream:\n"
        "    found = sum(1 for _ in walk(stream, lambda member: True))\n"
        "print(found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], env=environment(), check=True, capture_output=True, text=True
    )

    found, grown = map(int, done.stdout.split())
    assert found == 250_000
    assert grown < 6 << 10  # in kilobytes: far less than what each member would take
