"""The program as people run it, and a small dataset to run it on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import lance
import pytest

import laketag
from programs import Program, picture, run, write_shard


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Run `laketag` in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture(scope="session")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of six samples; one image is damaged."""
    file = tmp_path_factory.mktemp("shards") / "photos-000.tar"
    samples = {}
    for number in range(6):
        image = picture(number * 40) if number != 4 else b"not an image"
        facts = {"width": number * 100, "sizes": [number, number], "site": {"name": f"site {number}"}}
        samples[f"photo{number}"] = {"jpg": image, "json": json.dumps(facts).encode(), "txt": b"a caption"}
    write_shard(file, samples)
    return file


@pytest.fixture(scope="session")
def tagged(shard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shard as a dataset with the labels of `quality`. Read it only."""
    uri = tmp_path_factory.mktemp("tagged") / "photos.lance"
    laketag.import_([str(shard)], str(uri))
    laketag.tag(str(uri), ["quality"])
    return uri


@pytest.fixture
def imported(shard: Path, tagged: Path, tmp_path: Path) -> Path:
    """A dataset without labels that a test may change."""
    uri = tmp_path / "photos.lance"
    shutil.copytree(tagged, uri)
    lance.dataset(str(uri)).checkout_version(1).restore()
    return uri
