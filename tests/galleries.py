"""A dataset with what may go wrong in a page, a gallery that serves it, and a real browser."""

from __future__ import annotations

import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from PIL import Image, ImageDraw

import laketag
from laketag.gallery.app import gallery
from laketag.gallery.cached import CachedDataset
from laketag.gallery.serving import Address, listening
from laketag.lake.location import Location
from programs import write_shard

EVIL_CAPTION = "<script>window.evil = true</script><img src=x onerror='window.evil = true'>"
EVIL_KEY = "../../../etc/passwd"
ROWS = 150
"""More than two pages hold."""


def drawing(number: int) -> bytes:
    """Make a small JPEG; every row's differs."""
    image = Image.new("RGB", (64, 48), (number, 255 - number, 90))
    ImageDraw.Draw(image).ellipse((number % 30, 6, number % 30 + 24, 40), fill=(240, number, 20))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def samples() -> dict[str, dict[str, bytes]]:
    """Rows with captions, widths and kinds; the fourth is evil, the fifth damaged."""
    found = {}
    for number in range(ROWS):
        key = EVIL_KEY if number == 3 else f"photo{number:04d}"
        caption = EVIL_CAPTION if number == 3 else f"picture {number} of a thing"
        facts = {"width": number * 10, "kind": "even" if number % 2 == 0 else "odd"}
        image = drawing(number) if number != 4 else b"not an image"
        found[key] = {"jpg": image, "txt": caption.encode(), "json": json.dumps(facts).encode()}
    return found


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The dataset, tagged with `quality`. Read it only."""
    folder = tmp_path_factory.mktemp("gallery")
    write_shard(folder / "photos.tar", samples())
    uri = str(folder / "photos.lance")
    laketag.import_([str(folder / "photos.tar")], uri)
    laketag.tag(uri, ["quality"])
    return uri


@contextmanager
def served(
    uri: str, token: str | None = None, hosts: frozenset[str] = frozenset({"127.0.0.1"})
) -> Iterator[str]:
    """Serve a dataset on a free port; gives the address."""
    app = gallery(CachedDataset(Location.of(uri), None), hosts, token)
    with listening(Address(port=0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(scope="session")
def address(photos: str) -> Iterator[str]:
    """Where the gallery of `photos` answers."""
    with served(photos) as found:
        yield found


Ask = Callable[..., tuple[HTTPResponse, str]]


@pytest.fixture
def ask(address: str) -> Ask:
    """Ask the gallery of `photos` for a path, exactly as it is written."""
    return lambda path, **headers: asked(address, path, **headers)


def asked(address: str, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
    """Ask a server, and give its answer with its text."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read().decode(errors="replace")
    finally:
        connection.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium, or another one of this machine."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        message = "the browser tests need Chromium: apt-get install chromium (or make test as root)"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with sync_playwright() as playwright:
        # No sandbox of its own: tests run as root, and the pages are ours.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """A browser's page on the gallery; whatever goes wrong in it fails the test."""
    wrong: list[str] = []
    context = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()

    assert wrong == []


def shot(page: Any, name: str) -> None:
    """Leave a screenshot where LAKETAG_SHOTS says, for eyes."""
    if folder := os.environ.get("LAKETAG_SHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def keys(page: Any) -> list[str]:
    """Give the keys of the cards in a grid, in their order."""
    return [text.strip() for text in page.locator("#grid .key").all_inner_texts()]


def total(page: Any) -> str:
    """Give how many rows the page says are chosen."""
    return str(page.locator(".sum strong").inner_text())


def wait_for_total(page: Any, rows: int) -> None:
    """Wait until the page says that so many rows are chosen."""
    from playwright.sync_api import expect

    expect(page.locator(".sum strong")).to_have_text(str(rows))


def settled(page: Any) -> None:
    """Wait until the page shows what was last asked for."""
    from playwright.sync_api import expect

    page.wait_for_load_state("networkidle")
    expect(page.locator("#results[aria-busy]")).to_have_count(0)
