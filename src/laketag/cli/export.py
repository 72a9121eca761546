"""`laketag export`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from laketag.cli import progress, text
from laketag.cli.options import (
    At,
    EngineName,
    EngineOptions,
    Json,
    ShardOptions,
    StorageOptions,
    Uri,
    Where,
    Workers,
    column_names,
    engine,
    shard_options,
    store_options,
)
from laketag.cli.printing import print_json, tell
from laketag.errors import WrongUsage

if TYPE_CHECKING:
    import laketag

_Pattern = Annotated[
    str,
    typer.Argument(
        metavar="PATTERN", help="The shards: FOLDER/{000000..}.tar or .parquet, or just a folder."
    ),
]
_Columns = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", help="Only these columns; if not given, all but digests and, in tars, vectors."
    ),
]
_NoImages = Annotated[bool, typer.Option("--no-images", help="Leave out columns of bytes.")]
_Samples = Annotated[int, typer.Option(metavar="N", min=1, help="At most so many samples in one shard.")]
_Bytes = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="And at most so many bytes, as 500MB; rows are read once more for it."),
]
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def export(
    uri: Uri,
    pattern: _Pattern,
    where: Where = None,
    columns: _Columns = None,
    at: At = None,
    no_images: _NoImages = False,
    samples_per_shard: _Samples = 10_000,
    bytes_per_shard: _Bytes = None,
    shard_option: ShardOptions = None,
    engine_name: EngineName = "local",
    workers: Workers = None,
    engine_option: EngineOptions = None,
    storage_option: StorageOptions = None,
    as_json: Json = False,
) -> None:
    """Write a selection as WebDataset shards or Parquet files.

    In shards, labels go into the JSON. The same command again goes on where a broken one stopped.
    """
    import laketag

    place = engine(engine_name, workers, engine_option)
    size = None if bytes_per_shard is None else _size(bytes_per_shard)
    with progress.shown("export") as report_progress:
        settings = laketag.ExportSettings(
            where=where,
            columns=column_names(columns),
            at=at,
            images=not no_images,
            samples_per_shard=samples_per_shard,
            bytes_per_shard=size,
            shard_options=shard_options([pattern], uri, shard_option),
            progress=report_progress,
        )
        options = store_options(uri, storage_option, shards=[pattern])
        report = laketag.export(uri, pattern, storage_options=options, settings=settings, engine=place)
    if as_json:
        print_json(report.to_json())
    else:
        tell(_told(report))


def _size(given: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kKMG]i?B|)", given)
    if found is None or not float(found[1]):
        raise WrongUsage(f"--bytes-per-shard is {given!r}, which is no size; give one as 500MB or 1GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _told(report: laketag.ExportReport) -> list[str]:
    there = report.shards - report.shards_written
    shards = f"{text.count(report.samples, 'sample')} in {text.count(report.shards, 'shard')}"
    lines = [
        f"{report.folder}: {shards}, {text.size(report.bytes)}, of version {report.version}",
        f"written  {text.count(report.shards_written, 'shard')}{f', {there:,} were there' if there else ''}",
    ]
    if report.renamed:
        lines.append(f"renamed  {text.count(report.renamed, 'sample')}: the JSON has the key as __key__")
    if report.index is not None:
        lines.append(f"index    {report.index}")
    return [*lines, f"time     {text.duration(report.seconds)}"]
