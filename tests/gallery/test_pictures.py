from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from laketag.gallery.pictures import picture, thumbnail

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_small_picture_is_made_of_every_kind_of_pixel(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    small = thumbnail(written(Image.new(mode, (400, 200)), kind), 100)

    assert small is not None
    shown = Image.open(io.BytesIO(small))
    assert (shown.format, shown.size) == ("WEBP", (100, 50))


def test_a_picture_is_shown_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    small = thumbnail(written(Image.new("RGB", (40, 20)), "JPEG", exif=turned.tobytes()), 100)

    assert small is not None
    assert Image.open(io.BytesIO(small)).size == (20, 40)


@pytest.mark.parametrize("data", [None, b"", b"no image", EPS, b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_cannot_be_shown_is_none(data: bytes | None) -> None:
    assert thumbnail(data, 100) is None
    assert picture(data) is None


@pytest.mark.slow
def test_a_decompression_bomb_is_not_decoded() -> None:
    bomb = written(Image.new("1", (12_000, 12_000)), "PNG")

    with pytest.warns(Image.DecompressionBombWarning):
        assert thumbnail(bomb, 100) is None


def test_a_browser_is_given_the_bytes_themselves_where_it_can_show_them() -> None:
    image = Image.new("RGB", (8, 6))

    for kind, media_type in (("JPEG", "image/jpeg"), ("PNG", "image/png"), ("GIF", "image/gif")):
        data = written(image, kind)
        shown = picture(data)
        assert shown is not None
        assert (shown.data, shown.media_type) == (data, media_type)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "PPM", "TGA", "ICO", "JPEG2000"])
def test_what_a_browser_cannot_show_is_made_a_webp(kind: str) -> None:
    data = written(Image.new("RGB", (64, 48)), kind)
    shown = picture(data)

    assert thumbnail(data, 100) is not None
    assert shown is not None
    assert shown.media_type == "image/webp"
