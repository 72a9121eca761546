"""The program with `--engine`, as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lance
import pytest

import places
from laketag.cli import progress
from laketag.cli.options import engine as engine_of
from laketag.engines.protocol import Engine
from laketag.engines.ray import Ray
from laketag.engines.spark import Spark
from listening import outer_addresses
from programs import LISTENING, Program, environment, wait_until_staged

CLUSTERS = pytest.mark.parametrize("engine", ["ray", "spark"], indirect=True)
SLOW = "fakes:SlowTagger?seconds_per_batch=0.3&batch_size=1"


@pytest.mark.slow
@CLUSTERS
def test_import_tag_and_export_print_one_object_and_tell_progress_apart(
    engine: Engine, program: Program, shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    words = (
        "--engine",
        type(engine).__name__.lower(),
        "--workers",
        "2",
        "--engine-option",
        "tries=3",
        "--json",
    )

    imported = program("import", str(shard), "photos.lance", *words)
    tagged = program("tag", "photos.lance", "--with", SLOW, "--chunk-rows", "1", *words)
    exported = program("export", "photos.lance", "out", *words)

    assert [done.returncode for done in (imported, tagged, exported)] == [0, 0, 0]
    assert json.loads(imported.stdout)["rows"] == 6
    assert json.loads(tagged.stdout)["computed"] == 6
    assert json.loads(exported.stdout)["samples"] == 6
    assert "workers" in tagged.stderr
    assert "of 6 rows" in tagged.stderr


@pytest.mark.slow
@CLUSTERS
def test_what_a_worker_lacks_is_one_line_that_names_the_worker(
    engine: Engine, program: Program, imported: Path
) -> None:
    done = program("tag", str(imported), "--with", "fakes:Weighty?file=/nowhere/weights.bin", *on(engine))

    assert done.returncode == 1
    assert done.stdout == ""
    *told, line = done.stderr.splitlines()
    assert all(each.startswith("tag: ") for each in told), done.stderr
    assert "'/nowhere/weights.bin'; it must be there on every machine that workers run on" in line
    assert "(worker: process" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options", "number", "code"),
    [
        ("ray", ("cpus=0.5", "grace=20"), signal.SIGINT, 130),
        ("spark", ("master=local[2,4]", "conf.spark.python.worker.reuse=true"), signal.SIGTERM, 143),
    ],
)
def test_a_signal_to_the_driver_stages_what_is_at_hand_and_nothing_listened_outside(
    name: str, options: tuple[str, ...], number: signal.Signals, code: int, program: Program, imported: Path
) -> None:
    places.require_ray() if name == "ray" else places.require_spark()
    command = ("tag", str(imported), "--workers", "2", "--chunk-rows", "1", "--with")
    tagger = f"fakes:CountingTagger?folder={imported.parent}&batch_size=1&seconds_per_batch="
    words = (word for option in options for word in ("--engine-option", option))
    variables = {key: value for key, value in environment().items() if key not in places.LOOPBACK}
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING, *command, f"{tagger}1.5", "--engine", name, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
    )
    wait_until_staged(imported, process)
    outside = outer_addresses(process.pid)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=120)

    assert outside == []
    assert process.returncode == code, err
    assert out == ""
    *told, line = err.splitlines()
    assert all(each.startswith("tag: ") for each in told), err  # progress, where it took its time
    assert "the same command goes on" in line
    again = program(*command, f"{tagger}0", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["computed"] < 6
    assert lance.dataset(str(imported)).count_rows("SHA is null") == 0


def test_engine_options_become_the_engine_s_values(tmp_path: Path) -> None:
    (tmp_path / "env.yaml").write_text("pip: [einops]\nenv_vars: {MOOD: calm}\n")

    ray = engine_of(
        "ray",
        8,
        ["gpus=0.5", "py_files=a.py,b,", f"runtime_env={tmp_path / 'env.yaml'}", "runtime_env.working_dir=."],
    )
    spark = engine_of("spark", None, ["master=yarn", 'conf={"a": "1"}', "conf.spark.executor.memory=8g"])

    environment_of_workers = {"pip": ["einops"], "env_vars": {"MOOD": "calm"}, "working_dir": "."}
    assert ray == Ray(8, gpus=0.5, py_files=("a.py", "b"), runtime_env=environment_of_workers)
    assert spark == Spark(master="yarn", conf={"a": "1", "spark.executor.memory": "8g"})


@pytest.mark.parametrize(
    "option",
    ["runtime_env=[1]", "runtime_env=5", "runtime_env=no-such-file", 'runtime_env={"a": ', "gpus.half=1"],
)
def test_an_engine_option_that_is_none_is_wrong_usage(option: str, program: Program, tagged: Path) -> None:
    done = program("tag", str(tagged), "--with", "quality", "--engine", "ray", "--engine-option", option)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert option.partition("=")[0] in done.stderr


def on(engine: Engine) -> tuple[str, str]:
    return "--engine", type(engine).__name__.lower()
