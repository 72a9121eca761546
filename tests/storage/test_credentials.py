"""Where credentials come from, and what happens when they run out."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

import laketag
from laketag.cli.environment import add_variables
from programs import run
from servers import ACCESS, SECRET, Store, client
from tars import sample, tar_bytes, write_tar


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "TOS_", "AZURE_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


def test_the_environment_stands_in_for_options_that_are_not_given(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "there")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://there")

    everything = add_variables("s3://a/b", {})
    own = add_variables("s3://a/b", {"aws_access_key_id": "mine", "endpoint_url": "http://here"})

    assert everything == {
        "access_key_id": "key",
        "secret_access_key": "s3cret",
        "session_token": "token",
        "region": "there",
        "endpoint": "http://there",
    }
    # One's own key and another's token are no pair.
    assert own == {"aws_access_key_id": "mine", "endpoint_url": "http://here", "region": "there"}
    assert add_variables("/a/folder", {}) == add_variables("gs://a/b", {}) == {}


@pytest.mark.slow
def test_a_command_takes_everything_from_the_environment(tmp_path, store, uri, monkeypatch):
    write_tar(tmp_path / "a.tar", sample("a"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    assert run("import", tmp_path / "a.tar", uri).returncode == 0
    assert json.loads(run("show", uri, "--json").stdout)["rows"] == 1


def provider(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile whose credentials come from a program and last a second; gives the file of its calls."""
    calls = folder / "calls"
    program = folder / "credentials"
    program.write_text(
        f"#!{sys.executable}\n"
        "import datetime, json\n"
        f"open({str(calls)!r}, 'a').write('called\\n')\n"
        "ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)\n"
        f"print(json.dumps({{'Version': 1, 'AccessKeyId': {ACCESS!r}, 'SecretAccessKey': {SECRET!r},\n"
        "    'SessionToken': '', 'Expiration': ends.isoformat()}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "config").write_text(f"[profile renewed]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
    monkeypatch.setenv("AWS_PROFILE", "renewed")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return calls


@pytest.mark.slow
def test_credentials_that_run_out_are_renewed_from_their_provider(tmp_path, store: Store, uri, monkeypatch):
    calls = provider(tmp_path, monkeypatch)
    options = {k: v for k, v in store.options.items() if not k.endswith(("key_id", "access_key"))}
    shard = uri.replace("dataset", "a.tar")
    key = shard.removeprefix("s3://lake/")
    client(store).put_object(Bucket="lake", Key=key, Body=tar_bytes([("a.jpg", b"A")]))

    laketag.import_([shard], uri, storage_options=options)
    before = calls.read_text().count("called")
    report = laketag.show(uri, storage_options=options)

    assert report.rows == 1
    assert calls.read_text().count("called") > before
