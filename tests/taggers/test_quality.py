from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from skimage import data, filters

from laketag.taggers.pipeline import predict
from laketag.taggers.spec import find


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def measured(*images: Image.Image) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = predict(find("quality"), [png(image) for image in images]).to_pylist()
    return rows


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(data.astronaut())


def test_the_numbers_are_those_of_their_definitions(photo: Image.Image) -> None:
    (row,) = measured(photo)

    rgb = np.asarray(photo, np.float64)
    luma = np.asarray(photo.convert("L"), np.float64)
    laplacian = filters.laplace(luma, ksize=3)
    rg, yb = rgb[..., 0] - rgb[..., 1], (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    m3 = np.sqrt(rg.var() + yb.var()) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
    assert (row["IMAGE_WIDTH"], row["IMAGE_HEIGHT"]) == photo.size
    assert row["BRIGHTNESS"] == pytest.approx(luma.mean(), rel=1e-6)
    assert row["CONTRAST"] == pytest.approx(luma.std(), rel=1e-6)
    assert row["COLORFULNESS"] == pytest.approx(m3, rel=1e-5)
    assert row["SHARPNESS"] == pytest.approx(
        laplacian.var(), rel=0.02
    )  # scipy reflects the edge, we repeat it


@pytest.mark.slow
def test_a_blurred_a_dark_and_a_grey_copy_are_told_apart(photo: Image.Image) -> None:
    whole, blurred, dark, grey = measured(
        photo,
        photo.filter(ImageFilter.GaussianBlur(3)),
        photo.point(lambda level: level // 4),
        photo.convert("L").convert("RGB"),
    )

    assert blurred["SHARPNESS"] < whole["SHARPNESS"] / 10
    assert dark["BRIGHTNESS"] < whole["BRIGHTNESS"] / 3
    assert dark["CONTRAST"] < whole["CONTRAST"] / 3
    assert grey["COLORFULNESS"] == 0 < whole["COLORFULNESS"]


def test_the_hash_is_near_for_copies_and_far_for_others(photo: Image.Image) -> None:
    rows = measured(photo, photo.resize((200, 200)), photo.rotate(180), Image.fromarray(data.coffee()))

    def distance(other: int) -> int:
        return ((int(rows[0]["DHASH"]) ^ int(rows[other]["DHASH"])) & (2**64 - 1)).bit_count()

    assert distance(1) <= 4
    assert distance(2) > 16
    assert distance(3) > 16


def test_the_hash_is_the_published_one() -> None:
    ramp = np.zeros((8, 9), np.uint8)
    ramp[0] = range(9)  # each pixel brighter than the one on its left: eight ones, in the highest byte
    ramp[7] = [1, 0, 0, 0, 0, 0, 0, 0, 1]  # one, at the very end

    (row,) = measured(Image.fromarray(ramp).convert("RGB"))

    assert int(row["DHASH"]) & (2**64 - 1) == 0xFF00_0000_0000_0001


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (2500, 1700)])
def test_any_size_is_measured(size: tuple[int, int]) -> None:
    (row,) = measured(Image.new("RGB", size, (200, 100, 50)))

    assert row["QUALITY_ERROR"] is None
    assert (row["IMAGE_WIDTH"], row["IMAGE_HEIGHT"]) == size
    assert row["SHARPNESS"] == 0
    assert row["CONTRAST"] == 0
