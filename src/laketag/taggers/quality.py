"""`quality`: size, sharpness, light and a fingerprint of an image, without any weights.

- `IMAGE_WIDTH`, `IMAGE_HEIGHT`: pixels, from 1; as stored, before any EXIF rotation.
- `SHARPNESS`: squared levels, from 0; variance of the Laplacian (4 neighbours) of luma. Blurred
  photographs are below about 100.
- `BRIGHTNESS`: levels, 0 to 255; mean of luma.
- `CONTRAST`: levels, 0 to 127.5; standard deviation of luma (RMS contrast).
- `COLORFULNESS`: from 0, above 109 is extreme; the measure M3 of Hasler and Süsstrunk (2003), where 0
  is grey, 33 moderately and 59 quite colourful.
- `DHASH`: 64 bits; horizontal difference hash. Luma resized to 9 x 8; a bit is set where a pixel is
  brighter than the one on its left; row by row, the highest bit first.

Luma is ITU-R 601 in levels 0 to 255, as Pillow's mode `L`. All but the size and the hash are measured
on the image reduced to at most 1024 pixels on its long side (never enlarged), so that a photograph's
numbers do not depend on how many pixels its camera stores, and take bounded time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from PIL import Image

_LONG_SIDE = 1024
_BLOCK = 1 << 14
_COLUMNS = pa.schema(
    [
        pa.field("IMAGE_WIDTH", pa.int32(), metadata={"description": "width as stored, pixels"}),
        pa.field("IMAGE_HEIGHT", pa.int32(), metadata={"description": "height as stored, pixels"}),
        pa.field("SHARPNESS", pa.float32(), metadata={"description": "variance of the Laplacian of luma"}),
        pa.field("BRIGHTNESS", pa.float32(), metadata={"description": "mean luma, 0 to 255"}),
        pa.field(
            "CONTRAST", pa.float32(), metadata={"description": "standard deviation of luma, 0 to 127.5"}
        ),
        pa.field("COLORFULNESS", pa.float32(), metadata={"description": "Hasler and Süsstrunk's M3, from 0"}),
        pa.field("DHASH", pa.int64(), metadata={"description": "64-bit horizontal difference hash"}),
    ]
)


@dataclass(frozen=True)
class Quality:
    """Measures of an image that need no model."""

    name: ClassVar[str] = "quality"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    columns: ClassVar[pa.Schema] = _COLUMNS
    batch_size: ClassVar[int] = 32
    weights: ClassVar[str] = "none"

    def identity(self) -> Mapping[str, str]:
        """Say what determines the labels; the revision changes with any number that this module gives."""
        return {"model": "laketag/quality", "revision": "1", "long_side": str(_LONG_SIDE)}

    def load(self, device: str) -> QualityModel:
        """Give the measures; they run on the CPU, whatever the device."""
        return QualityModel()


class QualityModel:
    """All the work is in `prepare`, so that it runs in the threads."""

    def prepare(self, row: Mapping[str, Any]) -> tuple[int | float, ...]:
        """Measure one image; values in the order of the columns."""
        image: Image.Image = row["image"]
        small = _reduced(image)
        luma = small.convert("L")
        brightness, contrast = light(luma)
        return (
            image.width,
            image.height,
            sharpness(luma),
            brightness,
            contrast,
            colorfulness(small),
            difference_hash(image),
        )

    def predict(self, batch: list[tuple[int | float, ...]]) -> pa.RecordBatch:
        """Put the measures of a batch into columns."""
        columns = [pa.array(list(v), f.type) for v, f in zip(zip(*batch, strict=True), _COLUMNS, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=_COLUMNS)


def light(luma: Image.Image) -> tuple[float, float]:
    """Give mean and standard deviation, exactly: there are only 256 levels."""
    counts, levels = np.array(luma.histogram(), np.float64), np.arange(256)
    mean = float(counts @ levels / counts.sum())
    return mean, float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))


def sharpness(luma: Image.Image) -> float:
    """Give the variance of the Laplacian, the image's edge repeated around it."""
    around = np.pad(np.asarray(luma, np.int16), 1, mode="edge")
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
    laplacian -= 4 * around[1:-1, 1:-1]
    return float(laplacian.var(dtype=np.float32))


def colorfulness(image: Image.Image) -> float:
    """Give Hasler and Süsstrunk's M3 of an RGB image."""
    pixels = np.asarray(image).reshape(-1, 3)
    sums, squares = np.zeros(2, np.int64), np.zeros(2, np.int64)
    # In blocks that stay in the cache, three times as fast; in whole numbers, the same on every machine.
    for start in range(0, len(pixels), _BLOCK):
        red, green, blue = pixels[start : start + _BLOCK].T.astype(np.int16, order="C")
        for at, opponent in enumerate((red - green, red + green - 2 * blue)):
            sums[at] += opponent.sum(dtype=np.int64)
            squares[at] += np.multiply(opponent, opponent, dtype=np.int32).sum(dtype=np.int64)
    halves = np.array([1, 0.5])  # yellow-blue was left doubled
    means = halves * sums / len(pixels)
    variances = np.maximum(halves**2 * squares / len(pixels) - means**2, 0)
    return float(np.sqrt(variances.sum()) + 0.3 * np.sqrt((means**2).sum()))


def difference_hash(image: Image.Image) -> int:
    """Give the 64 bits, as a signed integer: images that differ in few bits look alike."""
    levels = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    bits = np.packbits(levels[:, 1:] > levels[:, :-1])
    return int.from_bytes(bits.tobytes(), "big", signed=True)


def _reduced(image: Image.Image) -> Image.Image:
    long_side = max(image.size)
    if long_side <= _LONG_SIDE:
        return image
    width, height = (max(1, round(side * _LONG_SIDE / long_side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)
