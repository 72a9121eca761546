"""As laketag does it.

python laketag_tag.py URI MODEL [ENGINE WORKERS CORES]
"""

from __future__ import annotations

import os
import sys

import laketag
import tagging


def main(uri: str, model: str, engine: str = "local", workers: str = "1", cores: str = "2") -> None:
    """Label a dataset with workers that share out some cores."""
    count, share = int(workers), int(cores) // int(workers)
    engines = {
        "local": lambda: laketag.Local(count),
        "ray": lambda: laketag.Ray(count, cpus=share),
        "spark": lambda: laketag.Spark(count, cpus=share),
    }
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    # The slow model is to be killed: it is staged as often as the others of the comparison are given a batch.
    settings = laketag.TagSettings(chunk_rows=64 if model == "slow" else None)
    laketag.tag(uri, [getattr(tagging, model)], settings=settings, engine=engines[engine]())


if __name__ == "__main__":
    main(*sys.argv[1:])
