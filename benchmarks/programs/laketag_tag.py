"""As laketag does it.

python laketag_tag.py URI MODEL [ENGINE WORKERS]
"""

from __future__ import annotations

import sys

import laketag
import tagging

ENGINES = {"local": laketag.Local, "ray": laketag.Ray, "spark": laketag.Spark}


def main(uri: str, model: str, engine: str = "local", workers: str = "2") -> None:
    """Label a dataset."""
    # The slow model is to be killed: it is staged as often as the others of the comparison are given a batch.
    settings = laketag.TagSettings(chunk_rows=64 if model == "slow" else None)
    laketag.tag(uri, [getattr(tagging, model)], settings=settings, engine=ENGINES[engine](int(workers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
