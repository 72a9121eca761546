"""A program with a Spark session of its own, which speculates: it tags, and a task hangs at its first try."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import lance
import pyarrow as pa
from pyspark.sql import SparkSession

import laketag
from standalone import QUICK

CONF = {
    "spark.driver.extraJavaOptions": QUICK,
    "spark.executor.extraJavaOptions": QUICK,
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.multiplier": "1.5",
    "spark.speculation.quantile": "0.5",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
}
URI, FOLDER, MASTER = sys.argv[1:]


@laketag.tagger(columns={"LENGTH": pa.int64()}, reads=("bytes",), version="1")
def hangs_once(images):
    if any(image.startswith(b"image 5 ") for image in images):
        try:
            Path(FOLDER, "hung").touch(exist_ok=False)
        except FileExistsError:
            Path(FOLDER, "copied").touch()
        else:
            time.sleep(240)
            Path(FOLDER, "woke").touch()
    return {"LENGTH": [len(image) for image in images]}


def main() -> None:
    """Tag, and say what came of it and what is left of the session."""
    session = SparkSession.builder.master(MASTER).config(map=CONF).getOrCreate()
    application = session.sparkContext.applicationId
    settings = laketag.TagSettings(chunk_rows=20, batch_size=10)
    report = laketag.tag(URI, [hangs_once], settings=settings, engine=laketag.Spark())
    again = laketag.tag(URI, [hangs_once], settings=settings, engine=laketag.Spark())
    told = {
        "computed": [report.computed, again.computed],
        "failed": report.failed,
        "files": sorted(path.name for path in Path(FOLDER).iterdir()),
        "is_theirs": session.range(10).count() == 10 and session.sparkContext.applicationId == application,
        "rows": lance.dataset(URI).to_table(columns=["number", "LENGTH"]).to_pylist(),
    }
    Path(FOLDER, "told.json").write_text(json.dumps(told))


main()
