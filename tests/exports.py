"""Exports in the process that calls them, and their shards as others read them."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import laketag
from here import Here, import_
from laketag import ExportSettings
from tars import write_tar

READ_BY_WEBDATASET = [
    # The public package leaves the closing of its files to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def imported(tmp_path: Path, *samples: Sequence[tuple[str, bytes]]) -> str:
    uri = str(tmp_path / "dataset")
    import_([str(write_tar(tmp_path / "in.tar", *samples))], uri)
    return uri


def export(uri: str, out: Path, pattern: str = "{000000..}.tar", **settings: Any) -> laketag.ExportReport:
    return laketag.export(uri, f"{out}/{pattern}", settings=ExportSettings(**settings), engine=Here())


def tars(out: Path) -> list[Path]:
    return sorted(out.glob("*.tar"))


def read(out: Path) -> list[dict[str, Any]]:
    """Read every sample with the public package, as it stands in the shards; importing it takes seconds."""
    import webdataset

    reader = webdataset.WebDataset([str(tar) for tar in tars(out)], shardshuffle=False)
    return [{k: v for k, v in each.items() if k not in ("__url__", "__local_path__")} for each in reader]


def keys_by_shard(out: Path) -> list[list[str]]:
    found = []
    for tar in tars(out):
        with tarfile.open(tar) as members:
            found.append([name.partition(".")[0] for name in members.getnames()])
    return found
