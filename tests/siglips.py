"""Aesthetic models that tests make for themselves: whole in kind, tiny in size, random in weight.

What makes them takes ten seconds to import, so it is imported there: every process of a test run imports this
module, and few run its tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from laketag.taggers.aesthetic import Aesthetic
from laketag.taggers.pipeline import predict

DIMENSION = 32
SIDE = 56
_VISION: dict[str, Any] = {
    "hidden_size": DIMENSION,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 14,
}
_TEXT: dict[str, Any] = _VISION | {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2}
_WIDTHS = (1024, 128, 64, 16, 1)


def encoder(folder: Path, *, with_text: bool = False, seed: int = 0) -> Path:
    """Write a SigLIP in the hub's folder format: the vision tower alone, or the whole, as the hub has it."""
    import torch
    from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(seed)
    model: Any
    if with_text:
        text = {key: value for key, value in _TEXT.items() if key not in ("image_size", "patch_size")}
        model = SiglipModel(SiglipConfig(vision_config=_VISION, text_config=text))
    else:
        model = SiglipVisionModel(SiglipVisionConfig(**_VISION))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Larger than at first, so that images differ in their vectors as they do in a trained model.
            if weight.dim() > 1 and "position" not in name:
                weight.mul_(3)
    model.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def head(file: Path, *, score: float | None = None, dimension: int = DIMENSION, seed: int = 0) -> Path:
    """Write a head as the published one is written; with a score, one that gives it to every image."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for number, (before, after) in enumerate(zip((dimension, *_WIDTHS), _WIDTHS, strict=False)):
        weight = torch.randn(after, before, generator=generator) * (2 / before) ** 0.5
        bias = torch.randn(after, generator=generator) / 10
        if score is not None and after == 1:
            weight, bias = torch.zeros_like(weight), torch.full_like(bias, score)
        state[f"scoring_head.{2 * number}.weight"] = weight
        state[f"scoring_head.{2 * number}.bias"] = bias
    kind = torch.bfloat16 if score is None else torch.float32  # bf16 would round the borders
    state = {name: tensor.to(kind) for name, tensor in state.items()}
    if file.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, file)
    else:
        from collections import OrderedDict

        torch.save(OrderedDict(state), file)
    return file


def scores(tagger: Aesthetic, images: list[bytes], **options: int) -> list[float]:
    """Score images, of which none may fail."""
    table = predict(tagger, images, **options)
    assert table["AESTHETIC_ERROR"].null_count == len(images)
    found: list[float] = table["AESTHETIC_SCORE"].to_pylist()
    return found
