"""A marked secret is looked for in everything that a full run leaves behind, prints and shows."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from pathlib import Path

import lance
import pytest

import laketag
from fakes import predicted
from laketag.lake.lease import leased
from laketag.lake.location import Location
from laketag.shards.sources import find_shards
from programs import environment, run
from servers import ACCESS, BUCKET, SECRET, Store, client, web
from tars import sample, write_tar

pytestmark = pytest.mark.slow
SIGNATURE = "marked-signature"


def variables(store: Store, folder: Path) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return environment() | {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_REGION": "us-east-1",
        "TMPDIR": str(folder),
    }


def command_lines(of: int) -> str:
    """Give the command lines of a process and of those that it started."""
    found, family = [], {of}
    for file in sorted(Path("/proc").glob("[0-9]*/cmdline"), key=lambda each: int(each.parent.name)):
        try:
            text = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            parent = int((file.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
        if parent in family or int(file.parent.name) == of:
            family.add(int(file.parent.name))
            found.append(text)
    return "\n".join(found)


def everything_under(store: Store, uri: str) -> dict[str, bytes]:
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    pages = client(store).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key: client(store).get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}


def recorded(store: Store, uri: str) -> str:
    """What a dataset says of itself, decoded: a compressed file would hide it."""
    dataset = lance.dataset(uri, storage_options=store.options)
    texts = [str(dataset.schema.metadata), *(str(field.metadata) for field in dataset.schema)]
    for version in dataset.versions():
        texts.append(str(version))
        texts.append(str(dataset.read_transaction(version["version"])))
    table = dataset.to_table(columns=[name for name in dataset.schema.names if name != "jpg"])
    return "\n".join([*texts, str(table.to_pylist())])


def test_a_full_run_leaves_no_secret_behind(tmp_path, store, uri, monkeypatch):
    shard = write_tar(tmp_path / "a.tar", *(sample(f"{i}", {"n": i}) for i in range(40))).read_bytes()
    said = []
    left = tmp_path / "left"
    for name, value in variables(store, left).items():
        monkeypatch.setenv(name, value)

    def laketag_says(*arguments: str, code: int = 0) -> None:
        done = run(*arguments)
        said.append(done.stdout + done.stderr)
        assert done.returncode == code, said[-1]

    with web({"/a.tar": shard}) as (address, asked):
        laketag_says("import", f"{address}/a.tar?sig={SIGNATURE}", uri)
        laketag_says("import", f"{address}/missing.tar?sig={SIGNATURE}", uri, "--append", code=1)
    tagger = f"fakes:CountingTagger?folder={tmp_path}&batch_size=4&seconds_per_batch="
    command = ("tag", uri, "--chunk-rows", "8", "--with")
    program = [sys.executable, "-m", "laketag", *command, f"{tagger}0.3"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with process:
        while len(predicted(tmp_path)) < 16:
            assert process.poll() is None
            time.sleep(0.05)
        said.append(command_lines(process.pid))
        process.terminate()  # what is staged stays
        said.append(process.communicate()[0])
    staged = everything_under(store, uri)
    laketag_says("show", uri, "--json")
    laketag_says(*command, f"{tagger}0", "--json")
    laketag_says("versions", uri, "--json")
    laketag_says("query", uri, "--json")
    laketag_says("query", uri, "--where", "nonsense", code=1)
    laketag_says("clean", uri, "--json")
    laketag_says("show", uri, "-o", "secret_access_key=x", "-o", "access_key_id=y", code=1)

    assert any("worker" in text for text in said)
    assert any("/_laketag/" in key for key in staged)
    assert any(SIGNATURE in path for path in asked)
    said += [recorded(store, uri), *map(str, left.rglob("*"))]
    files = [path.read_bytes() for path in left.rglob("*") if path.is_file()]
    kept = [*staged.values(), *everything_under(store, uri).values(), *files]
    for secret in (SECRET, SIGNATURE):
        assert not [text for text in said if secret in text]
        assert not [content for content in kept if secret.encode() in content]


def test_no_value_that_holds_a_secret_prints_it(tmp_path, store, uri):
    location = Location.of(uri, store.options)
    settings = laketag.ImportSettings(shard_options=store.options)
    client(store).put_object(Bucket=BUCKET, Key="printed/a.tar", Body=b"x")
    shards = find_shards([f"s3://{BUCKET}/printed/a.tar"], store.options)

    with pytest.raises(laketag.LaketagError) as error, leased(location, "w", "w"), leased(location, "w", "w"):
        pass

    for value in (location, settings, shards, pickle.loads(pickle.dumps(shards)), error.value):
        assert SECRET not in f"{value!r} {value}"
