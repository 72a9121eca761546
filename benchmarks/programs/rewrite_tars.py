"""Today's habit: Ray over tars; read each sample, predict, put the label into the JSON, write whole new tars.

    python rewrite_tars.py label FROM TO COLUMN MODEL [EVERY]   label all samples, or each EVERY-th
    python rewrite_tars.py tag FROM TO COLUMN THRESHOLD         tags by another threshold of scores
    python rewrite_tars.py query FROM COLUMN OVER               keys and scores of samples over a score

A tar gets its name when it is whole, and a tar that is there is not made again: so a crash costs the tars
that were being written, not all.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import labels
import ray

Sample = dict[str, tuple[tarfile.TarInfo, bytes]]


def samples(tar: tarfile.TarFile, wanted: Callable[[str], bool] = lambda extension: True) -> Iterator[Sample]:
    """Group the members of a tar by their key; bodies that are not wanted are stepped over."""
    key, sample = "", Sample()
    for member in tar:
        this, _, extension = member.name.partition(".")
        if this != key and sample:
            yield sample
            sample = Sample()
        key = this
        if wanted(extension):
            sample[extension] = member, tar.extractfile(member).read()
    if sample:
        yield sample


def rewrite(source: str, target: str, change: Callable[[dict[str, Any], Sample], None]) -> None:
    """Write a tar anew, each sample's JSON changed."""
    if os.path.exists(target):
        return
    with tarfile.open(source, "r:") as tar, tarfile.open(f"{target}.part", "w") as out:
        for sample in samples(tar):
            member, body = sample["json"]
            facts = json.loads(body)
            change(facts, sample)
            body = json.dumps(facts).encode()
            member.size = len(body)
            sample["json"] = member, body
            for member, body in sample.values():
                out.addfile(member, io.BytesIO(body))
    os.rename(f"{target}.part", target)


def label(source: str, target: str, column: str, model: str, every: str = "1") -> None:
    """Label each sample whose number divides by `every`."""
    predict = labels.load(model)

    def change(facts: dict[str, Any], sample: Sample) -> None:
        if facts["number"] % int(every) == 0:
            facts[column] = predict(sample["jpg"][1])

    rewrite(source, target, change)


def tag(source: str, target: str, column: str, threshold: str) -> None:
    """Derive tags from scores."""

    def change(facts: dict[str, Any], sample: Sample) -> None:
        facts["NSFW_TAG"] = "nsfw" if facts[column] >= float(threshold) else "sfw"

    rewrite(source, target, change)


def query(source: str, column: str, over: str) -> list[tuple[str, float]]:
    """Find samples over a score; images are stepped over, not read."""
    found = []
    with tarfile.open(source, "r:") as tar:
        for sample in samples(tar, lambda extension: extension == "json"):
            member, body = sample["json"]
            facts = json.loads(body)
            if facts[column] > float(over):
                found.append((member.name.partition(".")[0], facts[column]))
    return found


def main(verb: str, source: str, *rest: str) -> None:
    """Do it to all tars, each a task."""
    labels.start_ray(ray)
    tars = sorted(Path(source).glob("*.tar"))
    if verb == "query":
        run = ray.remote(query)
        for found in ray.get([run.remote(str(tar), *rest) for tar in tars]):
            print(*(f"{key}\t{score}" for key, score in found), sep="\n")
        return
    target, *rest = rest
    Path(target).mkdir(exist_ok=True)
    run = ray.remote({"label": label, "tag": tag}[verb])
    ray.get([run.remote(str(tar), str(Path(target, tar.name)), *rest) for tar in tars])


if __name__ == "__main__":
    main(*sys.argv[1:])
