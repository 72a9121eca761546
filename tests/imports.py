"""Imports in the process that calls them, and what they left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance

import here
from laketag import ImportReport, ImportSettings

PLAIN, APPEND = ImportSettings(), ImportSettings(append=True)


def run(uri: str, *shards: Path | str, settings: ImportSettings = PLAIN) -> ImportReport:
    """Import shards."""
    return here.import_([str(shard) for shard in shards], uri, settings=settings)


def rows(uri: str) -> list[dict[str, Any]]:
    """Read all rows of a dataset that is sound."""
    dataset = lance.dataset(uri)
    dataset.validate()
    return list(dataset.to_table().to_pylist())


def staged(uri: str) -> list[str]:
    """List what an import left staged; notes on what it read are to stay."""
    return [f.name for f in Path(uri, "_laketag").rglob("*.lance") if f.parent.name != "imported"]
