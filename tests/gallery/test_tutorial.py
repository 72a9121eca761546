"""The tutorial: every command runs, the network learns, and what is left can be photographed."""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tutorial_pictures
from examples import run
from PIL import Image

from programs import environment

pytestmark = pytest.mark.slow


def test_the_tutorial_runs_and_its_pictures_are_of_what_it_leaves(
    chromium: Any, demo_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    said = run(tutorial_pictures.TUTORIAL, tmp_path, environment())
    pictures = tutorial_pictures.take(chromium, tmp_path, tmp_path / "pictures")

    right = [tuple(map(int, found)) for found in re.findall(r"epoch \d+: (\d+) of (\d+) right", said)]
    assert right[-1][0] >= 0.9 * right[-1][1]
    with tarfile.open(tmp_path / "sharp/000000.tar") as tar:
        assert sum(name.endswith(".jpg") for name in tar.getnames()) == 8
    assert sizes(pictures) == sizes(tutorial_pictures.PICTURES.iterdir())


def sizes(pictures: Iterable[Path]) -> dict[str, tuple[int, int]]:
    found = {}
    for picture in pictures:
        with Image.open(picture) as image:
            found[picture.name] = image.size
    return found
