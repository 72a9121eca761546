"""What a killed writer left unfinished on a store is found and aborted, what is at work is not."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest

import laketag
from laketag.lake import uploads
from programs import run
from servers import BUCKET, Store, client, flags
from tars import sample, write_tar

pytestmark = pytest.mark.slow


def begin(store: Store, uri: str) -> None:
    key = f"{uri.removeprefix(f's3://{BUCKET}/')}/data/killed.lance"
    upload = client(store).create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    client(store).upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=bytes(5 << 20))


def dangling(store: Store, uri: str) -> int:
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    found = client(store).list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return len(found.get("Uploads", ()))


def test_uploads_that_a_killed_writer_left_are_aborted_when_they_are_old(tmp_path, store, uri, monkeypatch):
    laketag.import_([str(write_tar(tmp_path / "a.tar", sample("a")))], uri, storage_options=store.options)
    begin(store, uri)
    command = ("clean", uri, "--older-than", "0", *flags("-o", store.options))

    young = run(*command, "--yes")
    monkeypatch.setattr(uploads, "LIVES", timedelta(0))
    asked = run(*command)
    assert dangling(store, uri) == 1
    done = run(*command, "--yes")

    assert "multipart" not in young.stdout
    assert "would abort  1 multipart upload of killed writers" in asked.stdout
    assert "aborted  1 multipart upload of killed writers" in done.stdout
    assert dangling(store, uri) == 0
    assert laketag.show(uri, storage_options=store.options).rows == 1


def test_without_boto3_clean_says_what_it_did_not_look_for(tmp_path, store, uri, monkeypatch):
    laketag.import_([str(write_tar(tmp_path / "a.tar", sample("a")))], uri, storage_options=store.options)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)

    report = laketag.clean(uri, storage_options=store.options)

    assert [each.reason for each in report.kept if each.name == "uploads"] == [
        "dangling multipart uploads can be looked for with boto3: pip install 'laketag[s3]'"
    ]
