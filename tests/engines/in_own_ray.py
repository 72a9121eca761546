"""A program whose own Ray thinks that it has a GPU: it tags in the driver, in a task and in an actor."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import lance
import pyarrow as pa
import ray

import laketag


@laketag.tagger(columns={"PID": pa.int64(), "GPU": pa.string()}, reads=("bytes",), name="from_driver")
def from_driver(images):
    time.sleep(0.1)  # so that both workers get some
    return {"PID": [os.getpid()] * len(images), "GPU": [os.environ["CUDA_VISIBLE_DEVICES"]] * len(images)}


@laketag.tagger(columns={"IN_TASK": pa.string()}, reads=("bytes",), name="from_task")
def from_task(images):
    return {"IN_TASK": [os.environ["MOOD"]] * len(images)}


@laketag.tagger(columns={"IN_ACTOR": pa.int64()}, reads=("bytes",), name="from_actor")
def from_actor(images):
    return {"IN_ACTOR": [len(image) for image in images]}


SETTINGS = laketag.TagSettings(chunk_rows=20, batch_size=10)


@ray.remote(num_cpus=0)
def tag_in_a_task(uri: str) -> int:
    """Tag from a task, with a runtime environment for the workers."""
    place = laketag.Ray(runtime_env={"env_vars": {"MOOD": "calm"}})
    return laketag.tag(uri, [from_task], settings=SETTINGS, engine=place).computed


@ray.remote(num_cpus=0)
class Tags:
    """Tag from an actor."""

    def tag(self, uri: str) -> int:
        return laketag.tag(uri, [from_actor], settings=SETTINGS, engine=laketag.Ray()).computed


def refused(uri: str) -> str:
    """Ask for more GPUs than this machine has, on a Ray of laketag's."""
    try:
        laketag.tag(uri, [from_driver], settings=SETTINGS, engine=laketag.Ray(gpus=64))
    except laketag.errors.EngineError as error:
        return str(error)
    return ""


def main(uri: str, said: str) -> None:
    """Tag, and say what came of it and what is left of the Ray."""
    why = refused(uri)
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
    kept, session = ray.put("kept"), ray.get_runtime_context().get_job_id()
    lines: list[str] = []
    settings = laketag.TagSettings(
        chunk_rows=20, batch_size=10, progress=lambda told: lines.append(told.detail)
    )
    place = laketag.Ray(workers=3, gpus=0.5, cpus=0.5)
    computed = laketag.tag(uri, [from_driver], settings=settings, engine=place).computed
    told = {
        "refused": why,
        "computed": [computed, ray.get(tag_in_a_task.remote(uri)), ray.get(Tags.remote().tag.remote(uri))],
        "is_theirs": ray.get(kept) == "kept" and ray.get_runtime_context().get_job_id() == session,
        "nodes": len(ray.nodes()),
        "progress": lines,
        "rows": lance.dataset(uri).to_table(columns=["PID", "GPU", "IN_TASK", "IN_ACTOR"]).to_pylist(),
    }
    Path(said, "told.json").write_text(json.dumps(told))


main(*sys.argv[1:])
