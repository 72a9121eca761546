"""Whatever samples shards hold, they come out as they went in; plain dicts tell what is right."""

from __future__ import annotations

import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import laketag
from exports import export, tars
from imports import APPEND, rows, run
from tars import tar_bytes

STEMS = [
    "a/b",
    "a.b/c",
    "ü",
    "猫/x",
    "sp ace",
    "d'q\"",
    "x" * 120,
    "../up",
    "/abs",
    "./rel",
    "a//b",
    "k\n",
    "k",
    "k-2",
]
EXTENSIONS = ["jpg", "JPEG", "seg.png", "mask_1.png", "npy", "x-y", "b`t", "ß", "jpg.", "cls", "txt", "json"]
ODD = ["folder/.hidden.jpg", "__meta__.json", "noextension"]
VALUES = [
    None,
    True,
    0,
    -0.0,
    2**53 + 1,
    10**30,
    float("nan"),
    "",
    "猫",
    "\ud800",
    [],
    [None, [1]],
    {"a": {}},
    {"A": 1},
]
FORMS = [APPEND, replace(APPEND, image_encoding="blob"), replace(APPEND, link=True)]


def body(chance: random.Random, extension: str) -> bytes:
    if extension == "cls":
        return chance.choice([b"5", b"007", b"-1\n", b"9" * 20, b"cat"])
    if extension == "txt":
        return chance.choice(["", "a cat", "猫\0"]).encode()
    if extension == "json":
        keys = ["n", "N", "a.b", "jpg", "__key__", "", "猫"]
        values = {key: chance.choice(VALUES) for key in chance.sample(keys, chance.randrange(5))}
        return chance.choice([json.dumps(values).encode()] * 4 + [b"[1]", b"no json"])
    return chance.randbytes(chance.choice([0, 1, 512, 40_000]))


def members(chance: random.Random) -> list[tuple[str, bytes]]:
    """Make a shard's members: samples that have some extensions, now and then out of order."""
    found = [(name, b"odd") for name in ODD if chance.random() < 0.3]
    some = chance.sample(EXTENSIONS, 4)
    for number in range(chance.randrange(5)):
        stem = chance.choice([f"{number:03d}", *STEMS])
        found += [(f"{stem}.{each}", body(chance, each)) for each in some if chance.random() < 0.8]
    if chance.random() < 0.2:
        chance.shuffle(found)
    return found


def samples(found: list[tuple[str, bytes]]) -> dict[str, dict[str, bytes]]:
    """Tell samples by key, each with its bodies by extension, of which the first of a name counts."""
    told: dict[str, dict[str, bytes]] = {}
    for name, held in found:
        folder, slash, rest = name.rpartition("/")
        stem, dot, extension = rest.partition(".")
        if dot and stem and name not in ODD:
            column = extension.lower().replace(".", "_")
            told.setdefault(folder + slash + stem, {}).setdefault(column, held)
    return told


def exported(folder: Path) -> list[tuple[str, dict[str, bytes]]]:
    found = []
    for tar in tars(folder):
        with tarfile.open(tar) as opened:
            files = [(each.name, opened.extractfile(each).read()) for each in opened]
        found += samples(files).items()
    return found


def meaning(raw: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(raw or b"{}")
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"json": (raw or b"").decode()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_any_samples_come_out_as_they_went_in_and_do_so_again(tmp_path, uri, seed):
    chance, went_in = random.Random(seed), []
    settings = replace(chance.choice(FORMS), rows_per_fragment=chance.choice([1, 3, 100]))
    for number in range(2):
        found = [*members(chance), (f"last{number}.jpg", b"there is a row")]
        shard = tmp_path / f"{number}.tar"
        shard.write_bytes(tar_bytes(found, kind=chance.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
        run(uri, shard, settings=settings)
        went_in += samples(found).items()
    laketag.add_column(uri, "THIRD", "cast(__offset__ as double) / 3")

    export(uri, tmp_path / "one", samples_per_shard=5)
    run(str(tmp_path / "again"), tmp_path / "one")
    export(str(tmp_path / "again"), tmp_path / "two", samples_per_shard=5)

    came_out, labels = exported(tmp_path / "one"), [row["THIRD"] for row in rows(uri)]
    for (key, bodies), (name, held), label in zip(went_in, came_out, labels, strict=True):
        values = meaning(held.pop("json"))
        told = (
            meaning(bodies.pop("json", None)) | {"THIRD": label} | ({"__key__": key} if name != key else {})
        )
        assert json.dumps(values, sort_keys=True) == json.dumps(told, sort_keys=True)
        assert held.keys() == bodies.keys()
        for extension, came in held.items():
            assert came == bodies[extension] or int(came) == int(bodies[extension])
    assert exported(tmp_path / "one") == exported(tmp_path / "two")
