"""Image bytes to pixels: what an image is, and the few reasons why bytes are none.

An image is what `Image.open(...).convert("RGB")` gives, so that scores equal those of the public
packages: the first frame, EXIF rotation not applied, alpha dropped, palettes resolved, CMYK converted
by Pillow's own formula. Grey images of more than 8 bits (16-bit PNG and TIFF, 32-bit, float) are
clipped to 0..255, not scaled, because that is what Pillow does: most of them come out white.
"""

from __future__ import annotations

import io
import re
import warnings

from PIL import Image, UnidentifiedImageError

PIXEL_LIMIT = 89_478_485
"""More pixels than this is a decompression bomb; Pillow warns at the same number."""

_NOT_DECODED = ("EPS",)
"""Formats for which Pillow starts another program on the bytes: never done for a data lake's bytes."""

_QUIET = ("ignore", None, Warning, re.compile(r"PIL(\.|$)"), 0)


class DecodeError(Exception):
    """Bytes that are no image; the text is the row's reason, the same for all rows of a kind."""


def decode(data: bytes | None) -> Image.Image:
    """Decode the first frame, in RGB.

    Raises:
        DecodeError: null, 0 bytes, not an image, damaged, truncated or too many pixels.
    """
    return pixels(opened(data))


def opened(data: bytes | None) -> Image.Image:
    """Read an image's header: its size and mode are known, its pixels are not decoded yet.

    Raises:
        DecodeError: null, 0 bytes, not an image, or too many pixels.
    """
    if data is None:
        raise DecodeError("null image")
    if len(data) == 0:
        raise DecodeError("empty image: 0 bytes")
    _be_quiet()
    try:
        image = Image.open(io.BytesIO(data))
    except Exception as error:  # a plugin raises anything at all on bytes that it does not expect
        raise DecodeError(_reason(error)) from error
    if image.width * image.height > PIXEL_LIMIT:
        raise DecodeError(_BOMB)
    if image.format in _NOT_DECODED:
        raise DecodeError(f"{image.format} is not decoded: it would start another program")
    return image


def pixels(image: Image.Image) -> Image.Image:
    """Decode an image that is `opened`, in RGB.

    Raises:
        DecodeError: the pixels are damaged or truncated.
    """
    _be_quiet()
    try:
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # as above
        raise DecodeError(_reason(error)) from error


_BOMB = f"decompression bomb: more than {PIXEL_LIMIT} pixels"


def _reason(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return _BOMB
    if isinstance(error, EOFError) or "truncated" in text:
        return "truncated image"
    # Addresses, sizes and offsets differ from row to row; without them the rows of one kind are one reason.
    stable = re.sub(r"<[^>]*>|0x[0-9a-f]+|\d+", "N", " ".join(str(error).split()))
    return f"damaged image: {stable or type(error).__name__}"[:200]


def _be_quiet() -> None:
    # `catch_warnings` is not safe in threads, so one filter for Pillow's own warnings goes in front and
    # stays. Whoever puts a filter before it (a test runner turns warnings into errors) is put behind again.
    if not warnings.filters or warnings.filters[0] != _QUIET:
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
