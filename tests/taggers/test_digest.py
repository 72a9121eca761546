from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from laketag.taggers.digest import input_digest, provenance, tagger_digest
from laketag.taggers.spec import find

_names = itertools.count()

MODULE = '''
"""A module."""
import laketag, pyarrow as pa
import numpy as np

SCALE = 2.0  # of everything
OTHER = 7
TABLE = {}
TABLE["a"] = 1

def helper(x):
    """Help."""
    return x * SCALE + TABLE["a"]

def unused(x):
    return x

@laketag.tagger(columns={"GLOW": pa.float32()}, batch_size=32)
def glow(images):
    # the mean
    return {"GLOW": [helper(float(np.asarray(i).mean())) for i in images]}
'''


@pytest.fixture
def digest_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def digest(text: str, attribute: str = "glow") -> str:
        name = f"digested{next(_names)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return tagger_digest(find(f"{name}:{attribute}"))

    return digest


def test_the_digest_of_one_input_is_that_of_its_bytes() -> None:
    data = b"some bytes"
    expected = int.from_bytes(xxhash.xxh3_64_digest(data), "big", signed=True)

    assert input_digest({"image": data}) == input_digest({"bytes": data}) == expected
    assert input_digest({"image": memoryview(data)}) == expected


def test_inputs_that_differ_have_digests_that_differ() -> None:
    inputs: list[dict[str, Any]] = [
        {"image": None},
        {"image": b""},
        {"image": b"a", "caption": "b"},
        {"image": b"ab", "caption": ""},
        {"image": b"a", "caption": None},
        {"image": b"a", "caption": "None"},
        {"image": b"a", "text": "b"},
        {"n": 1},
        {"n": 1.0},
        {"n": "1"},
        {"n": True},
        {"n": [1, 2]},
        {"n": [[1], 2]},
        {"n": {"a": 1}},
        {"n": np.array([1, 2])},
        {"n": np.array([1, 2], np.int8)},
    ]

    digests = [input_digest(i) for i in inputs]

    assert len(set(digests)) == len(inputs)
    assert all(-(2**63) <= digest < 2**63 for digest in digests)
    with pytest.raises(TypeError, match="object"):
        input_digest({"n": object()})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# the mean", "# something else"),
        ('"""Help."""', '"""Another docstring."""'),
        ('"""A module."""', ""),
        ("SCALE = 2.0  # of everything", "SCALE = (\n    2.0\n)"),
        ("OTHER = 7", "OTHER = 8"),
        ("def unused(x):\n    return x", ""),
        ("batch_size=32", "batch_size=8"),
    ],
)
def test_what_does_not_change_labels_does_not_change_the_digest(digest_of: Any, old: str, new: str) -> None:
    assert old in MODULE
    assert digest_of(MODULE) == digest_of(MODULE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".mean()", ".max()"),
        ("SCALE = 2.0", "SCALE = 3.0"),
        ("return x * SCALE", "return x + SCALE"),
        ('TABLE["a"] = 1', 'TABLE["a"] = 2'),
        ("pa.float32()", "pa.float64()"),
        ("import numpy as np", "import math as np"),
    ],
)
def test_what_changes_labels_changes_the_digest(digest_of: Any, old: str, new: str) -> None:
    assert old in MODULE
    assert digest_of(MODULE) != digest_of(MODULE.replace(old, new))


def test_a_version_stands_for_the_source(digest_of: Any) -> None:
    one = MODULE.replace("batch_size=32", 'version="1"')

    assert digest_of(one) == digest_of(one.replace(".mean()", ".max()"))
    assert digest_of(one) != digest_of(one.replace('version="1"', 'version="2"'))


FULL = """
from dataclasses import dataclass
import pyarrow as pa
ADD = 1

class Base:
    def load(self, device):
        return Model(self.gain)

class Model:
    def __init__(self, gain):
        self.gain = gain
    def predict(self, batch):
        return pa.record_batch({"N": [len(b) * self.gain + ADD for b in batch]})

@dataclass(frozen=True)
class Full(Base):
    gain: int = 1
    batch_size: int = 4
    chunk_rows: int = 4
    name = "full"
    reads = ("bytes",)
    columns = pa.schema([("N", pa.int64())])
"""


def test_a_class_is_digested_with_its_model_its_bases_and_its_fields(digest_of: Any) -> None:
    same = digest_of(FULL, "Full")

    assert same == digest_of(
        FULL.replace("batch_size: int = 4", "batch_size: int = 4  # rows"), "Full?batch_size=9&chunk_rows=9"
    )
    assert same != digest_of(FULL, "Full?gain=2")
    assert same != digest_of(FULL.replace("ADD = 1", "ADD = 2"), "Full")
    assert same != digest_of(FULL.replace("self.gain = gain", "self.gain = -gain"), "Full")
    assert same != digest_of(FULL.replace("Model(self.gain)", "Model(self.gain + 1)"), "Full")


def test_helpers_in_other_modules_of_the_package_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    text = MODULE.replace("SCALE = 2.0", "from .deep import scales\nfrom .deep.scales import SCALE")

    def digest(value: str, other: str) -> str:
        package = tmp_path / f"package{next(_names)}"
        (package / "deep").mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "deep" / "__init__.py").write_text("")
        (package / "deep" / "scales.py").write_text(f"HALF = {value}\nSCALE = HALF * 2\nOTHER = {other}\n")
        (package / "tags.py").write_text(text)
        return tagger_digest(find(f"{package.name}.tags:glow"))

    assert digest("1", "1") == digest("1", "2")
    assert digest("1", "1") != digest("2", "1")
    text = text.replace("from .deep.scales import SCALE", "from .deep.scales import *")
    assert digest("1", "1") == digest("1", "2")
    assert digest("1", "1") != digest("2", "1")


@pytest.mark.slow
def test_the_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(MODULE)
    program = (
        "from laketag.taggers.digest import tagger_digest; from laketag.taggers.spec import find; "
        "print([tagger_digest(find(s)) for s in ('elsewhere:glow', 'quality', 'nsfw')])"
    )

    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(Path(importlib.import_module("laketag.errors").__file__ or "").parents[1]),
                "PYTHONHASHSEED": seed,
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(printed) == 1


@dataclass(frozen=True)
class Declared:
    where: str
    name: ClassVar[str] = "declared"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    columns: ClassVar[pa.Schema] = pa.schema([("D", pa.int32())])
    packages: ClassVar[tuple[str, ...]] = ("pyarrow", "no-such-package")

    def identity(self) -> dict[str, str]:
        return {"model": "m", "weights_sha256": "f00"}

    def load(self, device: str) -> Any:
        raise NotImplementedError


def test_a_declared_identity_is_all_that_counts() -> None:
    one, two = Declared("/one/folder"), Declared("/another/folder")

    assert tagger_digest(one) == tagger_digest(two)
    said = provenance(one)
    assert said["tagger"] == "declared"
    assert said["model"] == "m"
    assert said["digest"] == tagger_digest(one)
    assert said["version.pyarrow"] == pa.__version__
    assert "version.no-such-package" not in said
