"""The v2.5 aesthetic head: from a normalised image vector to a score, and from a score to a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import BadTagger, MissingExtra
from laketag.taggers.weights import downloaded, published_file, sha256_of

PUBLISHED = (
    "https://github.com/discus0434/aesthetic-predictor-v2-5/raw/main/models/aesthetic_predictor_v2_5.pth"
)
"""Where the authors of the v2.5 predictor keep its head."""
PUBLISHED_SHA256 = "a6caf256b3dc434273c98dcb12f6bf17c5d4fc647d8df11f038386923dd06220"
THRESHOLDS = (7.1, 5.5, 3.7)
ERROR_TAG = "error"
"""The tag of a row that could not be scored."""

_TAGS = ("very aesthetic", "aesthetic", "displeasing", "very displeasing")
_LAYERS = tuple(f"scoring_head.{number}" for number in (0, 2, 4, 6, 8))

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Five linear layers with nothing between them: one affine map, folded in float64."""

    weight: npt.NDArray[np.float64]
    bias: float

    def scores(self, vectors: Vectors) -> npt.NDArray[np.float32]:
        """Score vectors, one a row, of any length; the head sees their direction."""
        return np.asarray(normalised(vectors) @ self.weight + self.bias, np.float32)


def normalised(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Give vectors the length 1, each by itself; one of length 0 becomes NaN."""
    wide = vectors.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: npt.NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def read_head(head: str) -> Head:
    """Read a head from a `.pth` or a `.safetensors`, or from the published address.

    Raises:
        MissingExtra: torch or safetensors is not installed.
        BadTagger: there is no such file, or it holds something else.
    """
    file = _file(head)
    tensors = _tensors(file)
    wanted = [f"{layer}.{part}" for layer in _LAYERS for part in ("weight", "bias")]
    if sorted(tensors) != sorted(wanted):
        raise BadTagger(
            f"{file} is no head of the v2.5 predictor: it holds {', '.join(sorted(tensors))[:120]}"
        )
    try:
        return _folded([(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]) for layer in _LAYERS])
    except ValueError as error:
        raise BadTagger(f"{file} is no head of the v2.5 predictor: its layers do not fit together") from error


def head_digest(head: str) -> str:
    """Give the sha256 of a head's file, without a download.

    Raises:
        BadTagger: there is no such file.
    """
    return PUBLISHED_SHA256 if head == PUBLISHED else sha256_of(_file(head))


def settled_head(head: str) -> str:
    """Give a head that means the same in every folder."""
    return head if head == PUBLISHED else str(_file(head))


def is_head_here(head: str) -> bool:
    """Whether a head can be read without a download."""
    return Path(head).is_file() or (
        head == PUBLISHED and published_file(PUBLISHED, PUBLISHED_SHA256).is_file()
    )


def check_thresholds(name: str, thresholds: Sequence[float]) -> None:
    """Refuse what is not three numbers, the highest first.

    Raises:
        BadTagger: they are other than that.
    """
    if len(thresholds) != 3 or not thresholds[0] > thresholds[1] > thresholds[2]:
        raise BadTagger(
            f"{name}: thresholds is {thresholds}; give three numbers, the highest first, as 7.1,5.5,3.7"
        )


def label_fields(prefix: str) -> list[pa.Field]:
    """Give the columns of a score and its tag."""
    score = {"description": "v2.5 aesthetic score, about 1 to 10"}
    tag = {"description": f"{', '.join(_TAGS)}, or {ERROR_TAG}"}
    return [
        pa.field(f"{prefix}_SCORE", pa.float32(), metadata=score),
        pa.field(f"{prefix}_TAG", pa.string(), metadata=tag),
    ]


def labels(scores: npt.NDArray[np.float32], thresholds: Sequence[float]) -> list[pa.Array]:
    """Give scores and their tags, as `label_fields` has them."""
    # As float64: a query compares so, and the tag and the score must agree at the border.
    wide = scores.astype(np.float64)
    above = np.stack([wide > threshold for threshold in thresholds]).sum(axis=0)
    return [pa.array(scores), pa.array([_TAGS[3 - number] for number in above.tolist()], pa.string())]


def _file(head: str) -> Path:
    if head == PUBLISHED:
        return downloaded(PUBLISHED, PUBLISHED_SHA256)
    file = Path(head).expanduser().absolute()
    if not file.is_file():
        raise BadTagger(f"there is no head at {file}; give a .pth or .safetensors file, or leave head out")
    return file


def _tensors(file: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read what a file holds as float64; bf16, which numpy has not, goes through torch."""
    try:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingExtra(
            "the aesthetic head needs torch and safetensors: pip install 'laketag[aesthetic]'"
        ) from error
    import pickle

    try:
        # Never code: a .pth is a pickle, of which only tensors are taken.
        found: dict[str, Any] = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
        return {name: tensor.to(torch.float64).numpy() for name, tensor in found.items()}
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        ValueError,
        AttributeError,
        OSError,
    ) as error:
        first = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        raise BadTagger(f"{file} cannot be read as weights: {first}") from error


def _folded(layers: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> Head:
    weight, bias = layers[0]
    for next_weight, next_bias in layers[1:]:
        weight, bias = next_weight @ weight, next_weight @ bias + next_bias
    if weight.shape[0] != 1 or bias.shape != (1,):
        raise ValueError("not one score")
    return Head(weight[0], float(bias[0]))
