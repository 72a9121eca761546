"""Multipart uploads that a killed writer left on a store: they are paid for, and no listing shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from laketag.errors import MissingExtra, StoreError
from laketag.lake.location import Location

LIVES = timedelta(days=1)
"""A younger upload may be a writer's at work, whom an abort would fail."""


def abort_uploads(location: Location, older_than: timedelta, *, yes: bool) -> int:
    """Abort uploads below a dataset that were begun long ago; returns how many are, or would be.

    Args:
        location: the dataset's; only `s3://` has such uploads here.
        older_than: how long ago; at least a day.
        yes: abort; else only count.

    Raises:
        MissingExtra: boto3, which alone can list them, is not installed.
        StoreError: the store refuses.
    """
    if location.scheme not in ("s3", "s3a", "s3+ddb"):
        return 0
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise MissingExtra(
            "dangling multipart uploads can be looked for with boto3: pip install 'laketag[s3]'"
        ) from error
    bucket, _, key = location.uri.partition("://")[2].partition("?")[0].partition("/")
    before = datetime.now(UTC) - max(older_than, LIVES)
    try:
        client = _client(bucket, location.storage_options)
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=f"{key}/")
        found = [each for page in pages for each in page.get("Uploads", ()) if each["Initiated"] < before]
        for each in found if yes else ():
            client.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    except ClientError as error:
        said = error.response.get("Error", {}).get("Code", "an error")
        raise StoreError(f"{location.uri}: the store said {said} of its multipart uploads") from error
    except BotoCoreError as error:
        raise StoreError(
            f"{location.uri}: its multipart uploads cannot be listed ({type(error).__name__})"
        ) from error
    return len(found)


def _client(bucket: str, options: Mapping[str, str]) -> Any:
    import boto3
    from botocore.config import Config

    named = {key.removeprefix("aws_"): value for key, value in options.items()}
    endpoint = named.get("endpoint") or named.get("endpoint_url")
    is_virtual = named.get("virtual_hosted_style_request") == "true"
    if endpoint and is_virtual:
        endpoint = endpoint.replace(f"://{bucket}.", "://", 1)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=named.get("region"),
        aws_access_key_id=named.get("access_key_id"),
        aws_secret_access_key=named.get("secret_access_key"),
        aws_session_token=named.get("session_token") or named.get("token"),
        config=Config(s3={"addressing_style": "virtual" if is_virtual else "auto"}),
    )
