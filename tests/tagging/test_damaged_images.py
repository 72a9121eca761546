"""Images damaged at random, through the real line: each row gets a label or a reason."""

from __future__ import annotations

import io
import random
import resource
from pathlib import Path

import lance
import numpy as np
import pytest
from PIL import Image

import laketag
from here import import_
from tars import tar_bytes

KINDS = {
    "jpg": ("JPEG", {"quality": 80, "progressive": True}),
    "jpeg": ("JPEG", {"quality": 80, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {"save_all": True, "loop": 0}),
    "tif": ("TIFF", {"compression": "tiff_lzw"}),
}


def whole(kind: str, options: dict[str, object]) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def mutant(body: bytes, chance: random.Random) -> bytes:
    """Damage bytes in one of the ways that disks, networks and people do."""
    way = chance.randrange(5)
    if way == 0:
        return body[: chance.randrange(len(body))]
    if way == 1:
        at = chance.randrange(len(body))
        return body[:at] + chance.randbytes(chance.randrange(1, 64)) + body[at:]
    found = bytearray(body)
    for _ in range(chance.choice((1, 3, 30))):
        # Sizes, offsets and tables lie in front.
        at = chance.randrange(len(found) if way < 4 else 64)
        found[at] = chance.choice((0, 255, found[at] ^ (1 << chance.randrange(8))))
    if way == 3:
        start = chance.randrange(len(found))
        found[start : start + 200] = bytes(len(found[start : start + 200]))
    return bytes(found)


@pytest.mark.slow
@pytest.mark.parametrize("extension", KINDS)
def test_each_damaged_image_gets_a_label_or_a_reason(request, tmp_path: Path, extension: str) -> None:
    kind, options = KINDS[extension]
    body, chance = whole(kind, options), random.Random(extension)
    number = request.config.getoption("--fuzz")
    bodies = [body, *(mutant(body, chance) for _ in range(number))]
    shard = tmp_path / "a.tar"
    shard.write_bytes(tar_bytes([(f"{at:06d}.{extension}", each) for at, each in enumerate(bodies)]))
    uri = str(tmp_path / "dataset")
    import_([str(shard)], uri)

    report = laketag.tag(uri, ["quality"], settings=laketag.TagSettings(max_error_rate=1.0))

    columns = [extension, "IMAGE_WIDTH", "DHASH", "QUALITY_ERROR", "QUALITY_DIGEST"]
    rows = lance.dataset(uri).to_table(columns=columns).to_pylist()
    assert [row[extension] for row in rows] == bodies
    for row in rows:
        assert row["QUALITY_DIGEST"] is not None
        assert (row["QUALITY_ERROR"] is None) == (row["IMAGE_WIDTH"] is not None)
        assert (row["DHASH"] is None) == (row["IMAGE_WIDTH"] is None)
        assert row["QUALITY_ERROR"] != ""
    assert rows[0]["QUALITY_ERROR"] is None
    assert report.computed == len(bodies)
    assert report.failed == sum(row["QUALITY_ERROR"] is not None for row in rows) > 0
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2 << 20  # in kilobytes
