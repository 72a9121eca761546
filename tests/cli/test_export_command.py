from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from programs import Program

pytestmark = pytest.mark.slow

KEYS = "uri version folder shards samples bytes shards_written renamed index seconds"


def test_export_says_what_it_wrote_and_goes_on(program: Program, tagged: Path) -> None:
    first = program(
        "export", tagged, "out/{000..}.tar", "--samples-per-shard", "4", "--where", "width >= 100"
    )
    again = program(
        "export", tagged, "out/{000..}.tar", "--samples-per-shard", "4", "--where", "width >= 100"
    )

    assert first.returncode == again.returncode == 0, first.stderr
    assert "5 samples in 2 shards" in first.stdout
    assert "written  2 shards" in first.stdout
    assert "written  0 shards, 2 were there" in again.stdout


def test_export_json_has_the_keys_of_the_contract(program: Program, tagged: Path) -> None:
    done = program("export", tagged, "out", "--json", "--columns", "jpg, SHARPNESS", "--workers", "2")

    report = json.loads(done.stdout)
    assert report.keys() == set(KEYS.split())
    assert (report["shards"], report["samples"]) == (1, 6)
    with tarfile.open("out/000000.tar") as tar:
        assert tar.getnames()[:2] == ["photo0.jpg", "photo0.json"]


def test_export_without_images_and_by_size(program: Program, tagged: Path) -> None:
    done = program("export", tagged, "out", "--json", "--no-images", "--bytes-per-shard", "15kB")

    assert json.loads(done.stdout)["shards"] > 1
    assert max(file.stat().st_size for file in Path("out").glob("*.tar")) <= 15_000


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["out/x.tar"], 1, "does not name shards"),
        (["out", "--bytes-per-shard", "much"], 2, "500MB"),
        (["out", "--where", "NOTHING = 1"], 1, "cannot be run"),
        (["file/out"], 1, "cannot be read or written"),
    ],
)
def test_what_goes_wrong_is_one_line(
    program: Program, tagged: Path, words: list[str], code: int, said: str
) -> None:
    Path("file").write_text("no folder")

    done = program("export", tagged, *words)

    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
