from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from laketag.errors import BadTagger
from laketag.taggers.decorated import tagger
from laketag.taggers.digest import tagger_digest
from laketag.taggers.pipeline import predict
from laketag.taggers.protocol import Tagger
from laketag.taggers.spec import find


@tagger(columns={"GLOW": pa.float32()})
def glow(images: list[Image.Image]) -> dict[str, list[float]]:
    return {"GLOW": [float(np.asarray(image).mean()) for image in images]}


def test_a_decorated_function_is_a_tagger_and_still_the_function() -> None:
    image = Image.new("RGB", (4, 4), (10, 10, 10))

    assert isinstance(glow, Tagger)
    assert (glow.name, glow.reads, glow.columns) == ("glow", ("image",), pa.schema([("GLOW", pa.float32())]))
    assert glow([image]) == {"GLOW": [10.0]}
    assert hash(glow) == hash(cloudpickle.loads(cloudpickle.dumps(glow)))
    assert glow == cloudpickle.loads(cloudpickle.dumps(glow))


def test_further_roles_are_further_lists() -> None:
    @tagger(columns=pa.schema([("LONGER", pa.bool_())]), reads=("text", "caption"), name="pair")
    def anything(texts: list[str], captions: list[str | None]) -> dict[str, list[bool]]:
        return {"LONGER": [len(t) > len(c or "") for t, c in zip(texts, captions, strict=True)]}

    model = anything.load("cpu")
    batch = [model.prepare({"text": "abc", "caption": None}), model.prepare({"caption": "ab", "text": "a"})]

    assert anything.name == "pair"
    assert model.predict(batch).to_pydict() == {"LONGER": [True, False]}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.float32(), [1, 2.5], [1.0, 2.5]),
        (pa.float32(), np.array([1.0, 2.5]), [1.0, 2.5]),
        (pa.int64(), np.array([1, 2], np.uint8), [1, 2]),
        (pa.int32(), (1, 2), [1, 2]),
        (pa.string(), np.array(["a", "b"]), ["a", "b"]),
        (pa.float32(), pa.array([1.0, 2.5]), [1.0, 2.5]),
        (pa.float32(), pa.chunked_array([[1.0], [2.5]]), [1.0, 2.5]),
        (pa.list_(pa.float32(), 2), np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (pa.list_(pa.float32(), 2), [np.array([1, 2], np.float32), [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]),
        (pa.list_(pa.string()), [["a"], []], [["a"], []]),
        (pa.bool_(), np.array([True, False]), [True, False]),
    ],
)
def test_a_column_may_be_a_list_or_an_array_of_any_kind(
    kind: pa.DataType, values: object, expected: object
) -> None:
    made = tagger(columns={"V": kind}, reads=("bytes",), name="v", version="1")(lambda batch: {"V": values})

    table = predict(made, [b"a", b"b"])

    assert table["V_ERROR"].to_pylist() == [None, None]
    assert table["V"].to_pylist() == expected
    assert table["V"].type == kind


def test_a_table_may_be_returned() -> None:
    made = tagger(columns={"N": pa.int64()}, reads=("bytes",), name="n", version="1")(
        lambda batch: pa.table({"N": [len(value) for value in batch]})
    )

    assert predict(made, [b"a", b"bb"])["N"].to_pylist() == [1, 2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"columns": {}}, "at least one column"),
        ({"columns": ["A"]}, "give a dict"),
        ({"columns": {"A": 3}}, "give a dict"),
        ({"columns": {"A": pa.int64(), "a": pa.int64()}}, "given twice"),
        ({"columns": {"WRONG_ERROR": pa.int64()}}, "reserved"),
        ({"columns": {"A": pa.int64()}, "reads": ()}, "reads"),
        ({"columns": {"A": pa.int64()}, "reads": ("a", "a")}, "reads"),
        ({"columns": {"A": pa.int64()}, "name": "Not a name"}, "rename"),
        ({"columns": {"A": pa.int64()}, "batch_size": 0}, "batch_size"),
    ],
)
def test_a_definition_that_cannot_be_is_refused_at_once(options: dict[str, object], text: str) -> None:
    def wrong(images: list[object]) -> dict[str, list[object]]:
        return {}

    with pytest.raises(BadTagger, match=text):
        tagger(**options)(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [("N",), ("N", "M")])
def test_one_value_for_a_whole_batch_is_an_error_of_all_its_rows(columns: tuple[str, ...]) -> None:
    @tagger(columns=dict.fromkeys(columns, pa.int64()), reads=("bytes",), batch_size=4)
    def mistaken(values: list[bytes]) -> dict[str, list[int]]:
        return {"M": [1 for _ in values], "N": [len(values)]} if "M" in columns else {"N": [len(values)]}

    told = predict(mistaken, [b"", b"a", b"b", b"c"]).column("MISTAKEN_ERROR").to_pylist()

    assert told == ["predict returned 1 values of N for a batch of 4"] * 4


@pytest.mark.slow
def test_a_users_module_reaches_a_process_that_does_not_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "travelling").mkdir()
    (tmp_path / "travelling" / "__init__.py").write_text("")
    (tmp_path / "travelling" / "tools.py").write_text("def add(x):\n    return x + 40\n")
    (tmp_path / "travelling" / "tags.py").write_text(
        "import pyarrow as pa\nfrom dataclasses import dataclass\nfrom laketag import tagger\n"
        "from .tools import add\nTWO = 2\n"
        "@tagger(columns={'N': pa.int64()}, reads=('bytes',))\n"
        "def n(values):\n    return {'N': [add(len(v)) + TWO for v in values]}\n"
        "class Model:\n"
        "    def predict(self, batch):\n        return pa.record_batch({'M': [add(len(v)) for v in batch]})\n"
        "@dataclass(frozen=True)\nclass Full:\n    gain: int = 1\n    name = 'full'\n    reads = ('bytes',)\n"
        "    columns = pa.schema([('M', pa.int64())])\n"
        "    def load(self, device):\n        return Model()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    both = [find("travelling.tags:n"), find("travelling.tags:Full?gain=3")]
    program = (
        "import sys, pickle; from laketag import predict; from laketag.taggers.digest import tagger_digest;"
        "n, full = pickle.load(sys.stdin.buffer);"
        "print(predict(n, [b''])['N'][0], tagger_digest(n), predict(full, [b''])['M'][0], full.gain)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=cloudpickle.dumps(both),
        cwd="/",
        env={"PYTHONPATH": ":".join(p for p in sys.path if "site-packages" not in p and str(tmp_path) != p)},
        check=True,
        capture_output=True,
    )

    assert ran.stdout.decode().split() == ["42", tagger_digest(both[0]), "40", "3"]
