"""Where weights lie: on this machine, on the model hub, or at a published address."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any

from laketag.errors import BadTagger, MissingExtra

CONFIG = "config.json"
_INDEX = "model.safetensors.index.json"
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_WANTED = [CONFIG, "model.safetensors", _INDEX, "model-*.safetensors"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PATIENCE = 5.0  # seconds for an answer: who cannot be reached should be named before people wonder
_BLOCK = 1 << 20


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never moves."""
    return _COMMIT.fullmatch(revision) is not None


def is_hub_id(text: str) -> bool:
    """Whether a text can name a model on the hub and is not a folder here."""
    return _HUB_ID.fullmatch(text) is not None and not Path(text).exists()


def local_folder(text: str) -> Path:
    """Find a model's folder on this machine.

    Raises:
        BadTagger: there is none, or it lacks the configuration or weights.
    """
    folder = Path(text).expanduser().absolute()
    if not folder.is_dir():
        raise BadTagger(
            f"there is no folder {folder}; give a model's folder, or its id on the hub as ORG/NAME"
        )
    if not (folder / CONFIG).is_file() or not _weights(folder):
        raise BadTagger(f"{folder} is no model's folder: it needs {CONFIG} and {' or '.join(_WHOLE)}")
    return folder


def digest_of_folder(folder: Path) -> str:
    """Digest a model's configuration and weights, wherever the folder lies: a sha256."""
    files = [folder / CONFIG, *_weights(folder)]
    return hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """Digest a file; asked again, only if its size or its time has changed."""
    found = file.stat()
    return _sha256(str(file), found.st_size, found.st_mtime_ns)


def commit_of(model: str, revision: str) -> str:
    """Ask the hub for the commit that a branch or a tag of a model is at.

    Raises:
        BadTagger: the hub cannot be reached, or has no such model or revision.
    """
    if is_commit(revision):
        return revision
    return str(_asked(model, revision)["sha"])


def here(model: str, commit: str) -> Path | None:
    """Find a hub model's folder in the hub's cache on this machine, where it is there whole."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return None
    folder = Path(constants.HF_HUB_CACHE, f"models--{model.replace('/', '--')}", "snapshots", commit)
    return folder if (folder / CONFIG).is_file() and _weights(folder) else None


def brought_here(model: str, commit: str) -> Path:
    """Give a hub model's folder, after a download where it is not here yet.

    Raises:
        BadTagger: the hub cannot be reached, has no such model, or the download ended early.
    """
    folder = here(model, commit)
    if folder is not None:
        return folder
    _asked(model, commit)  # the hub's own client would try for minutes before it says that there is none
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(model, revision=commit, allow_patterns=_WANTED)
    except Exception as error:  # its HTTP library's are of no kind that it tells, and differ by its version
        raise BadTagger(
            f"the download of {model} ended early: {_line(error)}; run the command again"
        ) from error
    folder = here(model, commit)
    if folder is None:
        raise BadTagger(
            f"{model} at {commit[:12]} has no weights in safetensors; give a local folder that has"
        )
    return folder


def configuration(folder: Path) -> dict[str, Any]:
    """Read a model's configuration.

    Raises:
        BadTagger: it is not JSON.
    """
    try:
        found: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except ValueError as error:
        raise BadTagger(f"{folder / CONFIG} is not JSON: {_line(error)}") from error
    return found


def published_file(address: str, sha256: str) -> Path:
    """Say where a published file lies on this machine once it is downloaded."""
    return Path.home() / ".cache" / "laketag" / f"{sha256}-{address.rsplit('/', 1)[-1]}"


def downloaded(address: str, sha256: str) -> Path:
    """Give a published file, after a download where it is not here yet; its digest is checked.

    Raises:
        BadTagger: it cannot be reached, or it is not the file that was published.
    """
    file = published_file(address, sha256)
    if file.is_file() and sha256_of(file) == sha256:
        return file
    try:
        with urllib.request.urlopen(address, timeout=_PATIENCE) as answer:
            content = answer.read()
    except (OSError, HTTPException) as error:
        raise BadTagger(
            f"{address} cannot be reached ({_line(error)}); download it elsewhere and give its path"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadTagger(f"{address} is not the file that was published: its sha256 is {found}, not {sha256}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
        part.write(content)
    os.replace(part.name, file)  # whole or absent, whoever downloads at the same time
    return file


def _asked(model: str, revision: str) -> dict[str, Any]:
    try:
        from huggingface_hub import constants, get_token
    except ImportError as error:
        raise MissingExtra("models on the hub need huggingface_hub: pip install huggingface_hub") from error
    token = get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = f"{constants.ENDPOINT}/api/models/{model}/revision/{revision}"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(address, headers=headers), timeout=_PATIENCE
        ) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        raise BadTagger(
            f"the hub has no model {model} at {revision}, or does not show it to you (HTTP {error.code}); "
            "check its name, or give a local folder"
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        raise BadTagger(
            f"the hub cannot be reached for {model} ({_line(error)}); give a local folder, "
            "or run once where there is a network"
        ) from error
    return found


def _weights(folder: Path) -> Sequence[Path]:
    """List the weights' files, of several kinds those that are loaded, none where one is missing."""
    whole, old = (folder / name for name in _WHOLE)
    if whole.is_file():
        return [whole]
    if (folder / _INDEX).is_file():
        parts = sorted(set(json.loads((folder / _INDEX).read_text())["weight_map"].values()))
        files = [folder / part for part in parts]
        return files if all(file.is_file() for file in files) else []
    return [old] if old.is_file() else []


@lru_cache(maxsize=64)
def _sha256(file: str, size: int, time: int) -> str:
    total = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
