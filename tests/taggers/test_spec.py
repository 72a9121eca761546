from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from laketag.errors import BadTagger, UnknownTagger
from laketag.taggers.nsfw import Nsfw
from laketag.taggers.spec import find, known

MODULE = """
import pyarrow as pa
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from laketag import tagger

@tagger(columns={"GLOW": pa.float32()})
def glow(images):
    return {}

def plain(images):
    return {}

@dataclass(frozen=True)
class Full:
    model: Path = Path("nowhere")
    dtype: Literal["fp32", "bf16"] = "fp32"
    size: int = 3
    ratio: float | None = None
    is_fast: bool = False
    words: tuple[str, ...] = ()
    other: object = None
    name = "full"
    reads = ("image",)
    columns = pa.schema([("F", pa.float32())])
    def __post_init__(self):
        if self.size < 0:
            raise ValueError("size below zero")
    def load(self, device):
        return None

full = Full(size=5)
NUMBER = 5

class NoLoad:
    name = "noload"
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"spec_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def test_a_built_in_is_found_by_its_name_with_parameters() -> None:
    assert find("nsfw") == Nsfw()
    assert find("nsfw?threshold=0.25") == Nsfw(threshold=0.25)


def test_an_attribute_of_a_module_in_the_current_folder_is_found(module: str) -> None:
    assert find(f"{module}:glow").name == "glow"
    assert find(f"{module}:Full").name == "full"
    assert find(f"{module}:full") == find(f"{module}:Full?size=5")
    assert sys.path[0] != str(Path.cwd())


def test_parameters_have_the_types_of_the_fields(module: str) -> None:
    query = "model=/a%26b+c&dtype=bf16&size=-0&ratio=1e-3&is_fast=true&words=a,b"

    found = find(f"{module}:full?{query}")

    assert (found.model, found.dtype, found.size) == (Path("/a&b+c"), "bf16", 0)  # type: ignore[attr-defined]
    assert (found.ratio, found.is_fast, found.words) == (0.001, True, ("a", "b"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("nsfw?treshold=1", "no parameter 'treshold'; it takes threshold"),
        ("quality?size=1", "it takes none"),
        ("nsfw?threshold=high", "threshold is 'high', which is not of the type float"),
        ("nsfw?threshold=2", "from 0 to 1"),
        ("nsfw?threshold", "not one key=value"),
        ("nsfw?threshold=1&threshold=1", "given twice"),
        ("{}:Full?dtype=int8", "dtype is 'int8'"),
        ("{}:Full?is_fast=maybe", "is_fast is 'maybe', which is not of the type bool"),
        ("{}:Full?other=1", "other"),
        ("{}:Full?size=-1", "size below zero"),
        ("{}:glow?gain=1", "it takes none"),
        ("{}:plain", "decorate it"),
        ("{}:NUMBER", "not a tagger: it has no name"),
        ("{}:NoLoad", "it has no reads, columns, load"),
    ],
)
def test_what_is_wrong_with_a_tagger_is_named(module: str, spec: str, text: str) -> None:
    with pytest.raises(BadTagger) as caught:
        find(spec.format(module))

    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("nsfv", "did you mean nsfw?"),
        ("zzz", "there are aesthetic, aesthetic-head, nsfw, quality"),
        ("no_such_module:glow", "no module no_such_module"),
        ("{}:glov", "did you mean glow?"),
        ("{}.inner:glow", "no module"),
    ],
)
def test_an_unknown_name_says_what_there_is(module: str, spec: str, text: str) -> None:
    with pytest.raises(UnknownTagger) as caught:
        find(spec.format(module))

    assert text in str(caught.value)


def test_a_module_that_does_not_import_is_not_called_unknown(module: str, tmp_path: Path) -> None:
    (tmp_path / "broken_tags.py").write_text("import no_such_package_at_all\n")
    (tmp_path / "raising_tags.py").write_text("1 / 0\n")

    with pytest.raises(BadTagger, match="needs no_such_package_at_all"):
        find("broken_tags:glow")
    with pytest.raises(BadTagger, match="ZeroDivisionError"):
        find("raising_tags:glow")


def test_the_built_in_taggers_are_listed_with_what_they_need() -> None:
    listed = {one.name: one for one in known()}

    assert sorted(listed) == ["aesthetic", "aesthetic-head", "nsfw", "quality"]
    assert listed["nsfw"].columns == {"NSFW_SCORE": "float", "NSFW_TAG": "string"}
    assert listed["nsfw"].parameters == ("threshold", "device")
    assert listed["nsfw"].is_here
    assert listed["nsfw"].install is None
    assert listed["quality"].weights == "none"


@pytest.mark.slow
def test_listing_loads_no_model_library() -> None:
    program = (
        "import sys; from laketag.taggers.spec import known; known();"
        "print([m for m in ('torch', 'lance', 'onnxruntime', 'pandas') if m in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"
