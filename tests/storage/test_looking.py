"""A report and a gallery of images that lie on a store, or in tars that rows point into."""

from __future__ import annotations

from pathlib import Path

import pytest

import laketag
from here import import_, tag
from laketag.gallery.cached import CachedDataset
from laketag.gallery.choice import Choice
from laketag.gallery.pages import Pages
from laketag.lake.location import Location
from programs import picture
from servers import Store
from tars import write_tar

pytestmark = pytest.mark.slow


def shard(folder: Path) -> str:
    samples = [[(f"{i}.jpg", picture(i * 10)), (f"{i}.txt", b"a caption")] for i in range(20)]
    return str(write_tar(folder / "photos.tar", *samples))


def looked_at(uri: str, file: Path, options: dict[str, str]) -> tuple[int, list[bytes | None], str]:
    """Count the pictures of a report, and give some images and the first page of a gallery."""
    made = laketag.report(uri, file, storage_options=options)
    cached = CachedDataset(Location.of(uri, options), None)
    view = cached.view(None)
    ids = view.choose("`__key__` in ('3', '17')", "__key__ desc").ids
    return made.pictures, view.images(ids), Pages(cached, "x").grid(Choice(), 0)


def test_a_dataset_on_a_store_is_looked_at_as_one_in_a_folder(tmp_path: Path, store: Store, uri: str) -> None:
    import_([shard(tmp_path)], uri, storage_options=store.options)
    tag(uri, ["quality"], storage_options=store.options)
    pictures, images, page = looked_at(uri, tmp_path / "labels.html", store.options)

    assert pictures == 20
    assert images == [picture(30), picture(170)]
    assert page.count('class="card"') == 20


def test_images_in_tars_are_shown(tmp_path: Path) -> None:
    uri = str(tmp_path / "linked.lance")
    import_([shard(tmp_path)], uri, settings=laketag.ImportSettings(link=True))
    tag(uri, ["quality"])
    pictures, images, page = looked_at(uri, tmp_path / "labels.html", {})

    assert pictures == 20
    assert images == [picture(30), picture(170)]
    assert page.count('class="card"') == 20
