from __future__ import annotations

import base64
import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import lance
import pyarrow.parquet as pq
import pytest

import laketag
from programs import Program, environment, picture, write_shard

IMPORT_KEYS = (
    "uri version rows samples shards complete columns bytes_shards bytes_read bytes_written skipped lost"
    " schema_clashes seconds"
)
TAG_KEYS = (
    "uri jobs version_before version_after version_reserved rows computed skipped failed columns errors"
    " bytes_read bytes_written seconds rows_per_second"
)

pytestmark = pytest.mark.slow


def test_import_prints_the_ledger_and_exits_0(program: Program, shard: Path) -> None:
    done = program("import", shard, "photos.lance")

    assert done.returncode == 0, done.stderr
    assert "version 1" in done.stdout
    assert "6 added" in done.stdout


def test_import_json_has_the_keys_of_the_contract(program: Program, shard: Path) -> None:
    done = program("import", shard, "photos.lance", "--json")

    report = json.loads(done.stdout)
    assert set(IMPORT_KEYS.split()) <= set(report)
    assert report["rows"] == 6
    assert report["complete"] is True


def test_importing_twice_imports_nothing_twice(program: Program, shard: Path) -> None:
    program("import", shard, "photos.lance")

    again = program("import", shard, "photos.lance")

    assert again.returncode == 0
    assert "nothing to do, version 1 stands" in again.stdout


def test_a_truncated_shard_exits_3_and_says_what_is_lost(
    program: Program, shard: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.tar"
    cut.write_bytes(shard.read_bytes()[:5000])

    done = program("import", cut, "photos.lance")
    again = program("import", cut, "photos.lance", "--json")

    assert done.returncode == again.returncode == 3
    assert "lost" in done.stdout
    assert json.loads(again.stdout)["complete"] is False


def test_an_import_of_no_tar_leaves_nothing(program: Program, tmp_path: Path) -> None:
    (tmp_path / "rubbish.tar").write_bytes(b"rubbish" * 1000)

    done = program("import", "rubbish.tar", "photos.lance")

    assert done.returncode == 3
    assert "nothing was imported" in done.stdout
    assert [each.name for each in tmp_path.iterdir()] == ["rubbish.tar"]


def test_a_dry_run_of_import_writes_nothing(program: Program, shard: Path, tmp_path: Path) -> None:
    done = program("import", shard, "photos.lance", "--dry-run")

    assert "nothing was written" in done.stdout
    assert not (tmp_path / "photos.lance").exists()


def test_blob_encoding_is_taken_and_another_refused(program: Program, shard: Path) -> None:
    blob = program("import", shard, "blobs.lance", "--image-encoding", "blob")
    other = program("import", shard, "others.lance", "--image-encoding", "zip")

    assert blob.returncode == 0, blob.stderr
    assert other.returncode == 2


def test_tag_prints_what_it_did(program: Program, imported: Path) -> None:
    done = program("tag", imported, "--with", "quality")

    assert done.returncode == 0, done.stderr
    assert "6 computed, 0 had labels, 1 failed" in done.stdout
    assert "failed   1 row: not an image (quality)" in done.stdout


def test_tag_json_has_the_keys_of_the_contract(program: Program, imported: Path) -> None:
    report = json.loads(program("tag", imported, "--with", "quality", "--json").stdout)

    assert set(report) >= set(TAG_KEYS.split())
    assert report["errors"] == [{"tagger": "quality", "reason": "not an image", "rows": 1}]


def test_rows_that_were_staged_are_told_from_rows_that_had_labels(program: Program, imported: Path) -> None:
    quality = ("tag", imported, "--with", "quality")
    program(*quality, "--where", "width < 100")
    staged = program(*quality, "--where", "width >= 100 and width < 300", "--chunk-rows", "2", "--stage-only")
    rest = program(*quality)
    program("tag", imported, "--with", "fakes:DigestLabel", "--stage-only")
    committed = program("tag", imported, "--with", "fakes:DigestLabel", "--commit-only")

    assert "2 rows computed and staged" in staged.stdout
    assert "rows     3 computed, 2 were staged before, 1 had labels, 1 failed" in rest.stdout
    assert "rows     0 computed, 6 were staged before, 0 had labels, 0 failed" in committed.stdout


def test_reasons_that_are_all_different_are_counted_beyond_the_first_ten(
    program: Program, tmp_path: Path
) -> None:
    write_shard(tmp_path / "a.tar", {f"{i:02}": {"jpg": picture(i), "txt": b"x"} for i in range(14)})
    (tmp_path / "picky.py").write_text(
        "import laketag, pyarrow as pa\n"
        "@laketag.tagger(columns={'LUCK': pa.int8()}, reads=('image', 'number'), batch_size=1)\n"
        "def picky(images, numbers):\n"
        "    if numbers[0] != '00':\n"
        "        raise ValueError(f'no luck with {numbers[0]}')\n"
        "    return {'LUCK': [1]}\n"
    )
    program("import", "a.tar", "a.lance")
    command = ("tag", "a.lance", "--with", "picky:picky", "--input", "number=__key__")

    lines = [line for line in program(*command).stdout.splitlines() if line.startswith("failed")]

    assert len(lines) == 11
    assert lines[-1] == "failed   3 rows: 3 more reasons; --json names them all"


def test_tagging_again_makes_no_version(program: Program, tagged: Path) -> None:
    done = program("tag", tagged, "--with", "quality")
    none = program("tag", tagged, "--with", "quality", "--where", "width < 0")

    assert (done.returncode, none.returncode) == (0, 0)
    assert "rows have labels; nothing to do" in done.stdout
    assert "the filter passes no row, or there is none; nothing to do" in none.stdout


def test_a_dry_run_of_tag_reckons_time_and_cost(program: Program, imported: Path) -> None:
    done = program(
        *("tag", imported, "--with", "quality", "--where", "width >= 300", "--dry-run"),
        *("--price-per-hour", "3600"),
    )

    told = dict(line.split(None, 1) for line in done.stdout.splitlines()[1:])
    assert "3 of 3 rows would be tagged; nothing done" in done.stdout
    assert told["work"].startswith("3 rows, ")
    assert told["work"].endswith("1 task for 1 worker")
    assert told["sample"].startswith("3 rows, 1 of which failed, at ")
    assert float(told["cost"].removeprefix("about ")) > 0


def test_options_of_tag_reach_the_library(program: Program, imported: Path) -> None:
    done = program(
        *("tag", imported, "--with", "fakes:ByteLength?batch_size=2", "--column", "jpg", "--limit", "4"),
        *(
            "--chunk-rows",
            "2",
            "--batch-size",
            "1",
            "--threads",
            "1",
            "--workers",
            "1",
            "--engine-option",
            "tries=2",
        ),
        "--json",
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 4


def test_query_prints_a_table_without_bytes_and_digests(program: Program, tagged: Path) -> None:
    done = program("query", tagged)

    head = done.stdout.splitlines()[0].split()
    assert {"__key__", "txt", "SHARPNESS", "QUALITY_ERROR"} <= set(head)
    assert not {"jpg", "QUALITY_DIGEST"} & set(head)
    assert "(6 rows)" in done.stderr


def test_query_filters_orders_and_limits(program: Program, tagged: Path) -> None:
    done = program(
        *("query", tagged, "--where", "BRIGHTNESS > 10", "--order-by", "BRIGHTNESS desc", "--limit", "2"),
        *("--columns", "__key__,width", "--json"),
    )

    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"__key__": "photo5", "width": 500},
        {"__key__": "photo3", "width": 300},
    ]


def test_query_takes_sql_and_keeps_the_case_of_names(program: Program, tagged: Path) -> None:
    sql = "select count(*) as n, max(BRIGHTNESS) > 100 as is_bright from dataset where QUALITY_ERROR is null"

    done = program("query", tagged, "--sql", sql, "--json")

    assert json.loads(done.stdout) == {"n": 5, "is_bright": True}


def test_an_earlier_version_is_read_by_its_number_and_by_its_name(program: Program, tagged: Path) -> None:
    lance.dataset(str(tagged)).tags.create("first", 1)
    try:
        for at in ("1", "first"):
            row = json.loads(program("query", tagged, "--at", at, "--limit", "1", "--json").stdout)
            exported = json.loads(program("export", tagged, f"out-{at}", "--at", at, "--json").stdout)
            reported = json.loads(program("report", tagged, f"{at}.html", "--at", at, "--json").stdout)

            assert "SHARPNESS" not in row
            assert exported["version"] == reported["version"] == 1
    finally:
        lance.dataset(str(tagged)).tags.delete("first")


def test_json_gives_bytes_in_base64_and_nested_values_as_they_are(program: Program, tagged: Path) -> None:
    done = program("query", tagged, "--columns", "jpg,site,sizes", "--where", "width = 400", "--json")

    row = json.loads(done.stdout)
    assert base64.b64decode(row["jpg"]) == b"not an image"
    assert row["site"] == {"name": "site 4"}
    assert row["sizes"] == [4, 4]


def test_a_query_without_rows_prints_the_head_alone(program: Program, tagged: Path) -> None:
    table = program("query", tagged, "--where", "width > 9999", "--columns", "__key__,width")
    objects = program("query", tagged, "--where", "width > 9999", "--json")

    assert table.stdout.split() == ["__key__", "width"]
    assert objects.stdout == ""
    assert objects.returncode == 0


def test_query_writes_parquet_csv_and_jsonl(program: Program, tagged: Path, tmp_path: Path) -> None:
    for name in ("rows.parquet", "rows.csv", "rows.jsonl"):
        done = program("query", tagged, "--columns", "__key__,site,width", "--output", name)
        assert done.returncode == 0, done.stderr
        assert "6 rows" in done.stderr

    table = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    objects = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    cells = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert table == objects
    assert cells[1] == {"__key__": "photo1", "site": '{"name": "site 1"}', "width": "100"}


def test_an_output_that_fails_leaves_no_file(program: Program, tagged: Path, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())

    done = program("query", tagged, "--where", "nonsense(", "--output", "rows.csv")

    assert done.returncode == 1
    assert set(tmp_path.iterdir()) == before


def test_show_names_columns_and_what_made_them(program: Program, tagged: Path) -> None:
    done = program("show", tagged)

    assert "version 2, 6 rows in 1 fragment" in done.stdout
    sharpness = next(line for line in done.stdout.splitlines() if line.startswith("SHARPNESS"))
    assert sharpness.split()[2:] == ["1", "quality"]
    assert "QUALITY_DIGEST" not in done.stdout


def test_show_tells_of_an_earlier_version(program: Program, tagged: Path) -> None:
    before, now = (json.loads(program("show", tagged, "--at", at, "--json").stdout) for at in "12")

    assert (before["version"], now["version"]) == (1, 2)
    assert "SHARPNESS" in {c["name"] for c in now["columns"]} - {c["name"] for c in before["columns"]}


def test_show_gives_digests_when_asked(program: Program, tagged: Path) -> None:
    report = json.loads(program("show", tagged, "--json").stdout)
    whole = json.loads(program("show", tagged, "--digests", "--json").stdout)

    assert set(report) == {"uri", "version", "rows", "fragments", "columns", "jobs"}
    assert {c["name"] for c in whole["columns"]} - {c["name"] for c in report["columns"]} == {
        "QUALITY_DIGEST"
    }


def test_taggers_lists_the_built_in_ones(program: Program) -> None:
    table = program("taggers")
    report = json.loads(program("taggers", "--json").stdout)

    assert {"nsfw", "quality"} <= {one["name"] for one in report["taggers"]}
    assert "SHARPNESS" in table.stdout


def test_one_s_own_tagger_is_found_in_the_current_folder(
    program: Program, imported: Path, tmp_path: Path
) -> None:
    (tmp_path / "mytags.py").write_text(
        "import laketag, numpy as np, pyarrow as pa\n"
        "@laketag.tagger(columns={'GLOW': pa.float32()})\n"
        "def glow(images):\n"
        "    return {'GLOW': [float(np.asarray(i).mean()) for i in images]}\n"
    )

    done = program("tag", imported, "--with", "mytags:glow", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["columns"] == ["GLOW", "GLOW_ERROR", "GLOW_DIGEST"]


def test_a_caption_cannot_command_the_terminal(program: Program, tmp_path: Path) -> None:
    write_shard(tmp_path / "odd.tar", {"a": {"jpg": b"x", "txt": b"red \x1b[31m\ntwo lines"}})
    program("import", "odd.tar", "odd.lance")

    done = program("query", "odd.lance", "--columns", "txt")

    assert "\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 2


def test_nothing_that_a_shard_or_a_tagger_says_can_command_the_terminal(
    program: Program, tmp_path: Path
) -> None:
    (tmp_path / "rude.py").write_text(
        "import laketag, pyarrow as pa\n"
        "@laketag.tagger(columns={'RUDE': pa.int64()}, reads=('bytes',))\n"
        "def rude(images):\n"
        "    if images[0] == b'x':\n"
        "        raise ValueError('a reason \\x1b]0;mine\\x07')\n"
        "    return {'RUDE': [1] * len(images)}\n"
    )
    write_shard(
        tmp_path / "odd.tar",
        {"a": {"jpg": b"x", "json": b'{"\\u001b]0;mine\\u0007": 1}'}, "b": {"jpg": b"yy"}},
    )

    imported = program("import", "odd.tar", "odd.lance")
    tagged = program("tag", "odd.lance", "--with", "rude:rude")

    assert "clash" in imported.stdout
    assert "a reason" in tagged.stdout
    assert "\x1b" not in imported.stdout + tagged.stdout


def test_what_the_terminal_s_encoding_lacks_is_written_as_json_does(tmp_path: Path) -> None:
    samples = {"a": {"jpg": b"x", "txt": "Müller, 你好 😀".encode()}}
    write_shard(tmp_path / "odd.tar", samples)
    laketag.import_([str(tmp_path / "odd.tar")], str(tmp_path / "odd.lance"))
    command = [sys.executable, "-m", "laketag", "query", str(tmp_path / "odd.lance"), "--columns", "txt"]
    variables = environment() | {"PYTHONIOENCODING": "latin-1"}

    told = [
        subprocess.run([*command, *more], capture_output=True, check=True, env=variables).stdout
        for more in ([], ["--json"])
    ]

    assert told[0].decode("latin-1").split("\n")[1] == r"Müller, \u4f60\u597d \ud83d\ude00"
    assert json.loads(told[1].decode("latin-1")) == {"txt": "Müller, 你好 😀"}


@pytest.fixture
def moved(tagged: Path, tmp_path: Path) -> Path:
    shutil.copytree(tagged, tmp_path / "moved.lance")
    return tmp_path / "moved.lance"


def test_a_dataset_that_was_moved_works_as_before(program: Program, moved: Path) -> None:
    done = program("query", moved, "--limit", "1", "--json")

    assert json.loads(done.stdout)["__key__"] == "photo0"
