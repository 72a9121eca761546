"""Pictures for pages: small WebP ones, and what a browser may be given as it is."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageOps

# What a browser shows and cannot run. MPO is a JPEG with others behind it.
_SHOWN = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
}
# EPS is left out on purpose: Pillow would start another program on the bytes.
_READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM", "JPEG2000", "ICO", "TGA")
_LARGE = 2048
_THREADS = 4
_PIXELS = 89_478_485  # more is a decompression bomb


@dataclass(frozen=True)
class Picture:
    """Bytes with their media type."""

    data: bytes
    media_type: str


def thumbnail(image: bytes | None, side: int, quality: int = 72) -> bytes | None:
    """Make a WebP that fits into a square, upright; None where the image cannot be read."""
    if not image:
        return None
    buffer = io.BytesIO()
    try:
        opened = _opened(image)
        if opened.width * opened.height > _PIXELS:
            return None
        opened.draft("RGB", (side, side))
        shown = opened if opened.mode in ("RGB", "RGBA") else opened.convert("RGB")
        shown.thumbnail((side, side), Image.Resampling.BILINEAR)
        ImageOps.exif_transpose(shown).save(buffer, "WEBP", quality=quality, method=2)
    # A decoder raises anything at all on damaged bytes, and a page shows that there are none.
    except Exception:
        return None
    return buffer.getvalue()


def thumbnails(images: Sequence[bytes | None], side: int, quality: int) -> list[bytes | None]:
    """Make many, in threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda image: thumbnail(image, side, quality), images))


def picture(image: bytes | None) -> Picture | None:
    """Give an image as a browser can show it, its own bytes where it may; None where it cannot be read."""
    if not image:
        return None
    try:
        kind = _opened(image).format
    except Exception:  # as above
        return None
    if kind in _SHOWN:
        return Picture(image, _SHOWN[kind])
    made = thumbnail(image, _LARGE, 90)
    return None if made is None else Picture(made, "image/webp")


@cache
def _readable() -> tuple[str, ...]:
    Image.init()
    # Which ones there are depends on how Pillow was built, and it fails on a name that it does not know.
    return tuple(kind for kind in _READ if kind in Image.OPEN)


def _opened(image: bytes) -> Image.Image:
    return Image.open(io.BytesIO(image), formats=_readable())
