from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from laketag.taggers.decode import PIXEL_LIMIT, DecodeError, decode


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def huge_png() -> bytes:
    def block(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 10_000, PIXEL_LIMIT // 10_000 + 1, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", b"") + block(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("P", "GIF"),
        ("RGB", "BMP"),
        ("RGB", "WEBP"),
        ("RGBA", "WEBP"),
        ("CMYK", "TIFF"),
        ("F", "TIFF"),
        ("YCbCr", "TIFF"),
    ],
)
def test_an_image_of_any_kind_is_what_pillow_converts_to_rgb(mode: str, kind: str) -> None:
    data = encoded(photo(mode), kind)

    image = decode(data)

    assert image.mode == "RGB"
    assert image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_sixteen_bits_are_clipped_as_pillow_does() -> None:
    grey = np.array([[0, 255, 256, 65535]], np.uint16)

    image = decode(encoded(Image.fromarray(grey), "PNG"))

    assert np.asarray(image)[0, :, 0].tolist() == [0, 255, 255, 255]


def test_the_exif_rotation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    image = decode(encoded(photo(size=(40, 30)), "JPEG", exif=exif))

    assert image.size == (40, 30)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}

    image = decode(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))

    assert image.getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "null image"),
        (b"", "empty image: 0 bytes"),
        (b"<html>not found</html>", "not an image"),
        (encoded(photo(), "JPEG")[:700], "truncated image"),
        (encoded(photo(), "PNG")[:700], "truncated image"),
        (huge_png(), f"decompression bomb: more than {PIXEL_LIMIT} pixels"),
    ],
)
def test_bytes_that_are_no_image_have_one_short_reason(data: bytes | None, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)

    assert str(caught.value) == reason


def test_no_program_is_started_for_an_eps() -> None:
    with pytest.raises(DecodeError, match="EPS is not decoded"):
        decode(encoded(photo(), "EPS"))


def test_damage_anywhere_is_a_reason_without_numbers_and_never_another_exception() -> None:
    random = np.random.default_rng(1)
    for kind, mode in [
        ("JPEG", "RGB"),
        ("PNG", "P"),
        ("GIF", "P"),
        ("TIFF", "RGB"),
        ("WEBP", "RGB"),
        ("BMP", "RGB"),
    ]:
        whole = encoded(photo(mode), kind)
        for _ in range(60):
            damaged = bytearray(whole)
            for at in random.integers(0, len(damaged), 8):
                damaged[at] = random.integers(0, 256)
            try:
                image = decode(bytes(damaged))
            except DecodeError as error:
                text = str(error)
                assert 0 < len(text) <= 200
                assert "\n" not in text
                assert text.startswith("decompression") or not any(c.isdigit() for c in text)
            else:
                assert image.mode == "RGB"


def test_warnings_of_pillow_stay_inside_also_in_threads() -> None:
    palette = photo("P")
    data = encoded(palette, "PNG", transparency=bytes(range(256)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with ThreadPoolExecutor(4) as pool:
            images = list(pool.map(decode, [data] * 40))
        with pytest.raises(DecodeError):
            decode(huge_png())

    assert {image.mode for image in images} == {"RGB"}
    assert seen == []
