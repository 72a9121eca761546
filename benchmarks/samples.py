"""Photographs, and shards of them, that benchmarks make for themselves."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

_DIFFERENT = 50


def photographs(count: int) -> list[bytes]:
    """Make JPEGs as smooth and as grainy as web photographs, 800 x 600, about 100 KB each.

    The first fifty are made; the others are these again, each with a number of its own behind its end, which
    decoders pass over. So no two have the same bytes.
    """
    random = np.random.default_rng(11)
    made = []
    for _ in range(min(count, _DIFFERENT)):
        small = Image.fromarray(random.integers(0, 256, (38, 50, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((800, 600), Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-6, 7, (600, 800, 1), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return [made[number % _DIFFERENT] + b"%09d" % number for number in range(count)]


def write(folder: Path, images: list[bytes], shards: int) -> int:
    """Write shards as people have them: image, caption and JSON of each sample; returns their bytes."""
    folder.mkdir()
    each = -(-len(images) // shards)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:06d}.tar", "w") as tar:
            for number in range(shard * each, min((shard + 1) * each, len(images))):
                facts = {"number": number, "url": f"https://example.org/{number}.jpg", "width": 800}
                members = {"jpg": images[number], "txt": b"a photograph", "json": json.dumps(facts).encode()}
                for extension, body in members.items():
                    member = tarfile.TarInfo(f"{number:09d}.{extension}")
                    member.size = len(body)
                    tar.addfile(member, io.BytesIO(body))
    return sum(tar.stat().st_size for tar in folder.glob("*.tar"))
