"""Aesthetic models of any size with random weights, and JPEGs: what can be measured without the real ones."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES: dict[str, dict[str, int]] = {
    "so400m": {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
    "small": {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 224,
        "patch_size": 16,
    },
    "tiny": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 56,
        "patch_size": 14,
    },
}
_HEAD = (1024, 128, 64, 16, 1)


def write_model(folder: Path, size: str) -> tuple[Path, Path]:
    """Write an encoder in the hub's folder format, and a head; returns where they are."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel

    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    SiglipVisionModel(SiglipVisionConfig(**SIZES[size])).save_pretrained(folder / "encoder")
    side = SIZES[size]["image_size"]
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": side, "width": side}}
    (folder / "encoder" / "preprocessor_config.json").write_text(json.dumps(processor))
    state = OrderedDict()
    widths = (SIZES[size]["hidden_size"], *_HEAD)
    for number, (before, after) in enumerate(zip(widths, _HEAD, strict=False)):
        state[f"scoring_head.{2 * number}.weight"] = torch.randn(after, before) * (2 / before) ** 0.5
        state[f"scoring_head.{2 * number}.bias"] = torch.randn(after) / 10
    torch.save(OrderedDict((k, v.to(torch.bfloat16)) for k, v in state.items()), folder / "head.pth")
    return folder / "encoder", folder / "head.pth"


def operations(size: str) -> float:
    """Count the floating-point operations of one image, a multiplication and an addition as two."""
    model = SIZES[size]
    width, inner, patch = model["hidden_size"], model["intermediate_size"], model["patch_size"]
    tokens = (model["image_size"] // patch) ** 2
    layer = 2 * tokens * (4 * width * width + 2 * width * inner) + 4 * tokens * tokens * width
    pooling = (
        2 * tokens * 2 * width * width + 2 * (2 * width * width + 2 * width * inner) + 4 * tokens * width
    )
    return float(model["num_hidden_layers"] * layer + pooling + 2 * tokens * width * 3 * patch * patch)


def photographs(count: int, width: int = 1024, height: int = 768) -> list[bytes]:
    """Make JPEGs as smooth and as grainy as photographs, all different."""
    random = np.random.default_rng(7)
    made = []
    for _ in range(count):
        small = Image.fromarray(random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        grain = random.integers(-6, 7, (height, width, 1), dtype=np.int16)
        file = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        made.append(file.getvalue())
    return made


def versions(*packages: str) -> dict[str, str]:
    """Name the versions that figures depend on."""
    import importlib

    found: dict[str, Any] = {name: importlib.import_module(name) for name in packages}
    return {name: str(module.__version__) for name, module in found.items()}
