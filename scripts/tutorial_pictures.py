"""Make the pictures of `docs/tutorial.md`: run its examples, and photograph what they leave.

python scripts/tutorial_pictures.py [--to docs/pictures]

It takes a Chromium of this machine; everything else comes with `.[dev,demo]`. The same dataset gives the same
pictures, but for the times in them and the fonts of the machine.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import examples
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.md"
PICTURES = ROOT / "docs" / "pictures"
_SHOWN = {
    "gallery": "/?min.SHARPNESS=100&sort=SHARPNESS+desc",
    "image": "/row/6?sort=SHARPNESS+desc",
    "compare": "/compare?column=USE&with=3",
}
_SIZES = {"report": (1000, 800), "gallery": (1200, 760), "image": (1200, 700), "compare": (1200, 760)}
_QUALITY = 78
# Where this machine put the dataset is no one's business.
_WITHOUT_FOLDER = """folder => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder + "/", "");
}"""


@contextmanager
def served(dataset: Path) -> Iterator[str]:
    """Serve a dataset by the program; gives the address."""
    command = [sys.executable, "-m", "laketag", "serve", str(dataset), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        try:
            assert program.stdout is not None
            yield program.stdout.readline().strip()
        finally:
            program.terminate()


def take(browser: Any, folder: Path, to: Path) -> list[Path]:
    """Photograph report and gallery of the dataset that the tutorial leaves in a folder."""
    to.mkdir(parents=True, exist_ok=True)
    with served(folder / "tutorial.lance") as address:
        shown = {name: address.rstrip("/") + path for name, path in _SHOWN.items()}
        shown["report"] = f"file://{folder / 'labels.html'}"
        return [_taken(browser, each, folder, to / f"{name}.webp") for name, each in shown.items()]


def _taken(browser: Any, address: str, folder: Path, file: Path) -> Path:
    width, height = _SIZES[file.stem]
    page = browser.new_page(
        viewport={"width": width, "height": height}, device_scale_factor=1.5, color_scheme="light"
    )
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.evaluate(_WITHOUT_FOLDER, str(folder))
    shot = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    shot.convert("RGB").save(file, "WEBP", quality=_QUALITY, method=6)
    return file


def main() -> int:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--to", type=Path, default=PICTURES)
    to = parser.parse_args().to
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("the pictures need a Chromium: apt-get install chromium", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name).resolve()
        examples.run(TUTORIAL, folder, os.environ)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for file in take(browser, folder, to):
            print(f"{file} {file.stat().st_size:,} bytes")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
