"""What the environment's usual variables say of a store; the library itself reads none of them."""

from __future__ import annotations

import os
from collections.abc import Mapping

_S3 = {
    "access_key_id": ("AWS_ACCESS_KEY_ID",),
    "secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
}
_AZURE = {
    "account_name": ("AZURE_STORAGE_ACCOUNT_NAME",),
    "account_key": ("AZURE_STORAGE_ACCOUNT_KEY",),
    "sas_key": ("AZURE_STORAGE_SAS_KEY",),
}
_TOS = {
    "tos_access_key_id": ("TOS_ACCESS_KEY_ID", "TOS_ACCESS_KEY", "VOLCENGINE_ACCESS_KEY"),
    "tos_secret_access_key": ("TOS_SECRET_ACCESS_KEY", "TOS_SECRET_KEY", "VOLCENGINE_SECRET_KEY"),
    "tos_security_token": ("TOS_SECURITY_TOKEN", "VOLCENGINE_SESSION_TOKEN"),
    "tos_region": ("TOS_REGION",),
    "tos_endpoint": ("TOS_ENDPOINT",),
}
_VARIABLES: dict[str, Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("s3", "s3a", "s3+ddb"), _S3),
    **dict.fromkeys(("az", "abfss"), _AZURE),
    "gs": {"service_account": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT")},
    "tos": _TOS,
}
_SECRET = ("key", "token", "account_name", "service_account")


def add_variables(uri: str, given: Mapping[str, str]) -> dict[str, str]:
    """Put what the environment says of an address's store under the options that were given.

    Credentials come from one place only: where one was given, none is taken from here.
    """
    variables = _VARIABLES.get(uri.partition("://")[0].lower() if "://" in uri else "", {})
    named = {_plain(key) for key in given}
    has_credentials = any(_is_secret(key) for key in named)
    found = {}
    for key, names in variables.items():
        if _plain(key) in named or (has_credentials and _is_secret(key)):
            continue
        if value := next((os.environ[name] for name in names if os.environ.get(name)), None):
            found[key] = value
    return {**found, **given}


def _is_secret(key: str) -> bool:
    return any(word in key for word in _SECRET)


def _plain(key: str) -> str:
    """Leave out the prefixes and the second words by which Lance takes some options, too."""
    for prefix in ("aws_", "google_", "azure_storage_", "azure_", "tos_"):
        key = key.lower().removeprefix(prefix)
    return {"endpoint_url": "endpoint", "default_region": "region", "token": "session_token"}.get(key, key)
