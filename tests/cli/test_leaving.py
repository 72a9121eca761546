from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from programs import LISTENING, Program, environment, wait_until_staged


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "nowhere.lance"), "no Lance dataset at"),
        (("tag", "DATASET", "--with", "nothing"), "no tagger 'nothing'"),
        (("tag", "DATASET", "--with", "quality", "--column", "txt"), "cannot be read as images"),
        (("query", "DATASET", "--where", "nothing > 1"), "nothing"),
        (("query", "DATASET", "--columns", "Txt"), "did you mean 'txt'?"),
        (("query", "DATASET", "--order-by", "SHARPNES desc"), "did you mean 'SHARPNESS'?"),
        (("import", "nothing.tar", "new.lance"), "no shard 'nothing.tar'"),
        (("query", "DATASET", "--output", "no/such/folder.csv"), "cannot be written"),
        (("query", "DATASET", "--where", "nothing > 1"), "QUALITY_DIGEST\n"),
        (
            ("query", "DATASET", "--sql", "select * from photos"),
            "no table photos; the rows are those of dataset",
        ),
        (("query", "DATASET", "--at", "nothing"), "no version is named 'nothing'"),
        (("query", "DATASET", "--at", "9" * 30), "no version is named '999"),
        (("show", "FILE"), "a dataset is a folder"),
        (("import", "FILE", "FILE/photos.lance"), "a dataset is a folder"),
        (("drop-column", "DATASET", "jpg"), "--no-images"),
        (("drop-column", "DATASET", "__key__"), "'__key__' tells imports"),
        (("rename-column", "DATASET", "__url__", "url"), "'__url__' tells imports"),
        (("cast-column", "DATASET", "__key__", "large_string"), "'__key__' tells imports"),
        (("add-column", "DATASET", "__key__", "'x'", "--replace"), "'__key__' tells imports"),
    ],
)
def test_an_error_of_ours_is_one_line_and_exit_1(
    program: Program, tagged: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "file").write_text("in the way")
    places = {"DATASET": str(tagged), "FILE": "file", "FILE/photos.lance": "file/photos.lance"}

    done = program(*(places.get(word, word) for word in arguments))

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("laketag: ")
    assert message in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("tag", "DATASET", "--with", "quality", "--engine", "abacus"),
            "there is no engine 'abacus'; there is local",
        ),
        (
            ("tag", "DATASET", "--with", "quality", "--engine-option", "x=1"),
            "no option 'x'; it has tries, grace",
        ),
        (("tag", "DATASET", "--with", "quality", "--engine-option", "tries=x"), "not a number"),
        (("show", "DATASET", "-o", "marked-secret"), "takes KEY=VALUE"),
        (("show", "DATASET", "-o", "a=1", "-o", "a=2"), "a twice"),
        (("query", "DATASET", "--output", "rows.xls"), ".parquet, .csv, .jsonl"),
        (("query", "DATASET", "--output", "s3://lake/rows.parquet"), "no path on this machine"),
        (("report", "DATASET", "s3://lake/page.html"), "no path on this machine"),
        (("query", "DATASET", "--columns", " "), "no column is named"),
        (("query", "DATASET", "--limit", "9" * 30), "give a whole number from 0 on"),
        (("query", "DATASET", "--columns", "jpg,jpg"), "column 'jpg' is named twice"),
        (("query", "DATASET", "--sql", "select 1", "--where", "width > 1"), "stands alone"),
        (("query", "DATASET", "--similar-to", "photo1", "--order-by", "width"), "leave the order out"),
        (("query", "DATASET", "--order-by", "width sideways"), "asc or desc"),
        (("export", "DATASET", "out", "--columns", ""), "no column is named"),
        (("tag", "DATASET", "--with", "quality", "--slice", "5/3"), "give 1/3 to 3/3"),
        (("tag", "DATASET", "--with", "quality", "--stage-only", "--commit-only"), "give one of them"),
        (("tag", "DATASET", "--with", "quality", "--recompute", "--commit-every", "1"), "leave one of them"),
        (("tag", "DATASET", "--with", "quality", "--input", "caption=txt"), "reads 'caption'"),
        (("tag", "DATASET", "--with", "quality", "--limit", "0"), "equal to 1"),
        (("tag", "DATASET", "--with", "quality", "--device", "cuda:0,cuda:0"), "different names"),
        (
            ("tag", "DATASET", "--with", "quality", "--engine", "ray", "--engine-option", "address=head"),
            "HOST:PORT",
        ),
        (("index", "DATASET", "width", "--kind", "foo"), "no index 'foo'; there is btree"),
        (("cast-column", "DATASET", "width", "foo"), "no type 'foo'; types are int32"),
        (("show", "DATASET", "-o", "region=x"), "--storage-option is for what lies on a store"),
        (("import", "photos.tar", "DATASET", "--shard-option", "region=x"), "and photos.tar does not"),
        (("import", "photos.tar"), "a shard or the URI is missing"),
        (("show", ""), "the dataset's address is empty; give a folder"),
        (("tag", "DATASET"), "--with"),
        (("nothing",), "nothing"),
    ],
)
def test_wrong_usage_exits_2_and_repeats_no_secret(
    program: Program, tagged: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = program(*(str(tagged) if word == "DATASET" else word for word in arguments))

    assert done.returncode == 2
    assert message in done.stderr
    assert "marked-secret" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_dataset_that_cannot_be_written_is_one_line_with_its_path(
    program: Program, shard: Path, tmp_path: Path
) -> None:
    # A file in the way stops root too, whom permissions do not stop.
    uri = tmp_path / "photos.lance"
    uri.mkdir()
    (uri / "_laketag").write_text("in the way")

    done = program("import", str(shard), str(uri))

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert f"laketag: {uri} cannot be read or written" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_dataset_is_one_line_with_its_path(program: Program, imported: Path) -> None:
    folders = [imported, *(path for path in imported.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        runs = [
            program("tag", str(imported), "--with", "quality"),
            program("add-column", str(imported), "X", "1"),
        ]
    finally:
        for folder in folders:
            folder.chmod(0o755)

    for done in runs:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert str(imported) in done.stderr


def test_no_command_is_cut_off_where_all_are_listed(program: Program) -> None:
    listed = program("--help").stdout.partition("Commands:")[2].splitlines()

    assert any(line.endswith("Run taggers over the images and commit their columns.") for line in listed)
    assert [line for line in listed if line.endswith("...")] == []


def test_no_command_prints_help(program: Program) -> None:
    done = program()

    assert "import" in done.stdout + done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error(tagged: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m laketag query {tagged} --json | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )

    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert done.returncode in (0, 128 + signal.SIGPIPE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("query DATASET --json", ">&-"),
        ("tag DATASET --with quality", "2>&-"),
        ("tag DATASET --with quality", "<&- >&- 2>&-"),
    ],
)
def test_a_stream_that_is_closed_is_no_error(imported: Path, command: str, closed: str) -> None:
    line = f"{sys.executable} -m laketag {command.replace('DATASET', str(imported))} {closed}"

    done = subprocess.run(
        line, shell=True, executable="/bin/bash", capture_output=True, env=environment(), check=False
    )

    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stages_the_chunk_at_hand_and_says_how_to_go_on(
    program: Program, imported: Path, number: signal.Signals, code: int
) -> None:
    command = ("tag", str(imported), "--chunk-rows", "1", "--with")
    tagger = f"fakes:CountingTagger?folder={imported.parent}&batch_size=1&seconds_per_batch="
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *command, f"{tagger}0.6"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    wait_until_staged(imported, process)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)

    assert process.returncode == code, err
    assert out == ""
    *told, line = err.splitlines()
    assert all(each.startswith("tag: ") for each in told), err  # progress, where it took its time
    assert "the same command goes on" in line
    again = program(*command, f"{tagger}0")
    assert again.returncode == 0, again.stderr
    assert "version 3 -> 4" in again.stdout
