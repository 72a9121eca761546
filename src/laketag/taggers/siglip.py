"""The SigLIP vision tower: from pixels to one vector an image, on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from laketag.errors import BadTagger, MissingExtra
from laketag.taggers.weights import configuration

Dtype = Literal["auto", "fp32", "bf16"]
Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

PREPROCESSING = "rgb, squashed to the model's size with bicubic, /127.5 - 1"


def sizes(folder: Path) -> tuple[int, int]:
    """Read from a model's folder the side of its images and the length of its vectors.

    Raises:
        BadTagger: it is not the folder of a SigLIP model.
    """
    told = configuration(folder)
    vision = told.get("vision_config", told)
    if not str(told.get("model_type", "")).startswith("siglip") or not isinstance(vision, dict):
        raise BadTagger(
            f"{folder} holds a {told.get('model_type', 'model')!r}; the aesthetic model needs a SigLIP"
        )
    # What a configuration leaves out is as in the smallest SigLIP.
    return int(vision.get("image_size", 224)), int(vision.get("hidden_size", 768))


def squashed(image: Image.Image, side: int, *, gap: float | None = None) -> Pixels:
    """Give an RGB image as side x side x 3; `gap` lets Pillow shrink coarsely first."""
    small = image.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=gap)
    return np.asarray(small, np.uint8)


def load_encoder(folder: Path, device: str, dtype: Dtype) -> Encoder:
    """Load the vision tower of a folder; whatever else lies there is not read, and no code of it is run.

    Raises:
        MissingExtra: torch or transformers is not installed.
        BadTagger: there is no such device, or the weights are not all there.
    """
    try:
        import torch
        from transformers import SiglipVisionModel
    except ImportError as error:
        raise MissingExtra(
            "the tagger aesthetic needs torch and transformers: pip install 'laketag[aesthetic]'"
        ) from error
    side, _ = sizes(folder)
    place = _device(torch, device, dtype)
    with _quietly():
        model, report = SiglipVisionModel.from_pretrained(
            str(folder),
            dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise BadTagger(f"{folder} lacks {len(missing)} weights of the vision tower, {missing[0]} among them")
    model = model.eval().requires_grad_(False).to(place)
    return CudaEncoder(model, side) if place.type == "cuda" else Encoder(model, side)


class Encoder:
    """A loaded vision tower."""

    def __init__(self, model: Any, side: int) -> None:
        """Take a model, on its device, and the side of its images."""
        self.side = side
        self._model = model

    def use_cores(self, count: int) -> None:
        """Compute with so many threads."""
        import torch

        torch.set_num_threads(count)

    def vectors(self, images: list[Pixels]) -> Vectors:
        """Give the pooled vector of each image, in float32, not normalised."""
        import torch

        with torch.inference_mode():
            pooled: Vectors = self._pooled(torch.from_numpy(np.stack(images))).numpy()
        return pooled

    def _pooled(self, pixels: Any) -> Any:
        import torch

        # Before the model's own dtype: in bfloat16 the levels of a pixel would be rounded twice.
        levels = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        with _in_full_precision(torch):
            return self._model(pixel_values=levels).pooler_output.float()


class CudaEncoder(Encoder):
    """A vision tower on a GPU: images of the next batch are copied there while this one is at work."""

    def __init__(self, model: Any, side: int) -> None:
        """Take a model on a GPU."""
        import torch

        super().__init__(model, side)
        self.busy_seconds = 0.0
        """How long the GPU was at work, from the first to the last kernel of each batch."""
        self._device = next(model.parameters()).device
        self._copies = torch.cuda.Stream(self._device)

    def vectors(self, images: list[Pixels]) -> Vectors:
        """Give the pooled vector of each image, in float32, not normalised."""
        return self.begin(images)()

    def begin(self, images: list[Pixels]) -> Callable[[], Vectors]:
        """Start on a batch; the function that is returned waits for its vectors."""
        import torch

        with torch.inference_mode(), torch.cuda.device(self._device):
            return self._begun(images)

    def _begun(self, images: list[Pixels]) -> Callable[[], Vectors]:
        import torch

        # Each batch has pinned memory of its own: torch gives it out again once the copies of it have ended.
        pinned = torch.empty((len(images), self.side, self.side, 3), dtype=torch.uint8, pin_memory=True)
        np.stack(images, out=pinned.numpy())
        with torch.cuda.stream(self._copies):
            pixels = pinned.to(self._device, non_blocking=True)
        compute = torch.cuda.current_stream(self._device)
        compute.wait_stream(self._copies)
        pixels.record_stream(compute)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record(compute)
        pooled = self._pooled(pixels)
        last.record(compute)
        there = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
        there.copy_(pooled, non_blocking=True)
        copied = torch.cuda.Event(blocking=True)  # else who waits keeps a core, which could decode, busy
        copied.record(compute)

        def wait() -> Vectors:
            # Asked from elsewhere, CUDA may set itself up on the first GPU, too, and take memory there.
            with torch.cuda.device(self._device):
                copied.synchronize()
                self.busy_seconds += first.elapsed_time(last) / 1000
            vectors: Vectors = there.numpy()
            return vectors

        return wait


def _device(torch: Any, name: str, dtype: Dtype) -> Any:
    try:
        place = torch.device(name)
    except RuntimeError as error:
        raise BadTagger(f"{name!r} is no device; give cpu, cuda or cuda:0") from error
    if place.type not in ("cpu", "cuda"):
        raise BadTagger(f"the aesthetic model does not run on {name}; give cpu, cuda or cuda:0")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise BadTagger(
            f"there is no {name} here: torch sees no GPU; give --device cpu, install torch for CUDA, or on "
            "Ray give each worker a GPU (--engine-option gpus=1)"
        )
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise BadTagger(
            f"there is no {name} here: torch sees {torch.cuda.device_count()} GPUs, from cuda:0 on"
        )
    if place.type == "cuda" and dtype == "bf16":
        with torch.cuda.device(place):
            # Emulated, it would be slower than fp32, and nobody would know.
            if not torch.cuda.is_bf16_supported(including_emulation=False):
                raise BadTagger(f"{name} has no bf16, as GPUs before Ampere; give aesthetic?dtype=fp32")
    return place


@contextmanager
def _in_full_precision(torch: Any) -> Iterator[None]:
    """Keep fp32 from being rounded to ten bits, which convolutions on a GPU do unless they are told not to.

    Matrix products do where a program, or the environment that a container sets, allows it. Scores would not
    be those of a CPU.
    """
    cudnn, products = torch.backends.cudnn, torch.get_float32_matmul_precision()
    kept = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(**kept, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(products)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from its bars and its notes on the text tower, which is left out on purpose."""
    from transformers.utils import logging

    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()
