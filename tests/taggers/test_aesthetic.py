from __future__ import annotations

import io
import json
import pickle
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from skimage import data

from laketag.errors import BadTagger
from laketag.taggers.aesthetic import COMMIT, Aesthetic
from laketag.taggers.digest import provenance, tagger_digest
from laketag.taggers.pipeline import predict
from laketag.taggers.protocol import settled
from laketag.taggers.scoring import PUBLISHED_SHA256, labels
from laketag.taggers.siglip import _device
from laketag.taggers.spec import find
from siglips import DIMENSION, SIDE, encoder, head, scores

if TYPE_CHECKING:
    import torch

pytestmark = pytest.mark.slow

MODES = ("RGB", "L", "LA", "P", "RGBA", "CMYK", "I;16", "1", "I", "F", "YCbCr", "PA")
PHOTOGRAPHS = (data.astronaut, data.coffee, data.camera, data.rocket, data.cat)


def encoded(pixels: np.ndarray, mode: str) -> bytes:
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "PA":
        image = image.convert("RGBA").quantize(64)  # a palette whose colours are transparent
    else:
        image = image.convert(mode)
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG", "F": "TIFF", "I": "TIFF"}.get(mode, "PNG")
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return [encoded(PHOTOGRAPHS[number % 5](), mode) for number, mode in enumerate(MODES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def tagger(folder: Path) -> Aesthetic:
    return Aesthetic(encoder=str(encoder(folder / "vision")), head=str(head(folder / "head.pth")))


def public_predictor(weights: str, model: str) -> Any:
    """Load the public package's model; importing it takes seconds."""
    from aesthetic_predictor_v2_5 import convert_v2_5_from_siglip

    return convert_v2_5_from_siglip(weights, model)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # Pillow's, in the test's own decoding
@pytest.mark.parametrize("with_text", [False, True], ids=["vision tower", "whole model"])
def test_scores_are_those_of_the_public_package_for_images_of_every_mode(
    with_text: bool, images: list[bytes], tmp_path: Path
) -> None:
    import torch

    model = encoder(tmp_path / "model", with_text=with_text, seed=3)
    weights = head(tmp_path / "head.pth")
    public, processor = public_predictor(str(weights), str(model))
    with torch.inference_mode():
        given = [processor(Image.open(io.BytesIO(i)).convert("RGB"), return_tensors="pt") for i in images]
        expected = [public(pixel_values=one.pixel_values).logits.item() for one in given]

    found = scores(Aesthetic(encoder=str(model), head=str(weights)), images)

    assert np.ptp(expected) > 0.05  # else everything would agree
    assert found == pytest.approx(expected, abs=1e-4)


def test_its_pixels_are_those_of_the_public_processor_to_the_bit(
    tagger: Aesthetic, images: list[bytes]
) -> None:
    import torch

    _, processor = public_predictor(tagger.head, tagger.encoder)
    image = Image.open(io.BytesIO(images[0])).convert("RGB")
    model = tagger.load("cpu")
    seen: list[torch.Tensor] = []
    model._encoder._model.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["pixel_values"]), with_kwargs=True
    )

    model.predict([model.prepare({"image": image})])

    assert torch.equal(seen[0], processor(image, return_tensors="pt").pixel_values)


@pytest.mark.parametrize(
    ("score", "tag"),
    [
        (7.2, "very aesthetic"),
        (7.1, "aesthetic"),  # as float32 it is below 7.1
        (5.500001, "aesthetic"),
        (5.5, "displeasing"),
        (3.7, "displeasing"),  # as float32 it is above 3.7
        (3.6999998, "very displeasing"),
        (-1.0, "very displeasing"),
    ],
)
def test_the_tag_at_a_border_is_that_of_a_comparison_in_float64(
    score: float, tag: str, tagger: Aesthetic, images: list[bytes], tmp_path: Path
) -> None:
    table = predict(replace(tagger, head=str(head(tmp_path / "flat.pth", score=score))), images[:1])

    assert table["AESTHETIC_SCORE"].to_pylist() == [np.float32(score)]
    assert table["AESTHETIC_TAG"].to_pylist() == [tag]


def test_tags_follow_the_thresholds() -> None:
    _, tags = labels(np.array([1, 2, 3, 4], np.float32), (3.5, 2.5, 1.5))

    assert tags.to_pylist() == ["very displeasing", "displeasing", "aesthetic", "very aesthetic"]
    with pytest.raises(BadTagger, match="three numbers, the highest first"):
        find("aesthetic?thresholds=3.7,5.5,7.1")


def test_a_row_that_cannot_be_scored_has_no_score_and_the_tag_error(
    tagger: Aesthetic, images: list[bytes]
) -> None:
    table = predict(tagger, [images[0], b"broken", None, images[1]])

    assert [score is None for score in table["AESTHETIC_SCORE"].to_pylist()] == [False, True, True, False]
    assert table["AESTHETIC_TAG"].to_pylist()[1:3] == ["error", "error"]
    assert table["AESTHETIC_ERROR"].to_pylist() == [None, "not an image", "null image", None]


def test_the_same_batches_give_the_same_bits_and_others_nearly(
    tagger: Aesthetic, images: list[bytes]
) -> None:
    first, again = scores(tagger, images), scores(tagger, images)
    by_one, by_all = scores(tagger, images, batch_size=1), scores(tagger, images, batch_size=100)

    assert first == again
    assert by_one == pytest.approx(first, abs=1e-5)
    assert by_all == pytest.approx(first, abs=1e-5)


def test_bf16_is_near_fp32_and_its_scores_are_on_no_coarse_grid(
    tagger: Aesthetic, images: list[bytes]
) -> None:
    exact, rounded = scores(tagger, images), scores(replace(tagger, dtype="bf16"), images)

    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=0.2)  # random weights are further from bf16 than trained ones
    assert any(score * 128 % 1 for score in rounded)


def test_the_vector_is_kept_from_the_same_pass(tagger: Aesthetic, images: list[bytes]) -> None:
    table = predict(replace(tagger, embedding="SIGLIP"), [*images, b"broken"])

    assert table["SIGLIP"].type == pa.list_(pa.float16(), DIMENSION)
    assert table["SIGLIP"].to_pylist()[-1] is None
    vectors = np.array(table["SIGLIP"].to_pylist()[:-1], np.float64)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)
    assert table["AESTHETIC_SCORE"].to_pylist()[:-1] == scores(tagger, images)


def test_two_predictors_with_prefixes_of_their_own_stand_side_by_side(tagger: Aesthetic) -> None:
    second = replace(tagger, prefix="SECOND")

    assert second.name == "second"
    assert second.columns.names == ["SECOND_SCORE", "SECOND_TAG"]


def test_its_digest_is_of_what_determines_the_labels(tagger: Aesthetic, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tagger.encoder, tmp_path / "moved")
    shutil.copy(tagger.head, tmp_path / "same.pth")
    moved = replace(tagger, encoder=str(tmp_path / "moved"), head=str(tmp_path / "same.pth"))
    own = tagger_digest(tagger)

    assert tagger_digest(moved) == own
    assert tagger_digest(replace(tagger, device="cuda:1")) == own
    for other in (
        replace(tagger, encoder=str(encoder(tmp_path / "other", seed=1))),
        replace(tagger, head=str(head(tmp_path / "other.pth", seed=1))),
        replace(tagger, dtype="bf16"),
        replace(tagger, draft=True),
        replace(tagger, thresholds=(7.0, 5.5, 3.7)),
    ):
        assert tagger_digest(other) != own
    assert len(provenance(tagger)["encoder_sha256"]) == len(provenance(tagger)["head_sha256"]) == 64


def test_what_is_left_open_is_settled_by_the_device() -> None:
    on_cpu, on_gpu = settled(find("aesthetic"), "cpu"), settled(find("aesthetic"), "cuda:1")

    assert (on_cpu.dtype, on_gpu.dtype) == ("fp32", "bf16")  # type: ignore[attr-defined]
    assert on_cpu.batch_size < on_gpu.batch_size  # type: ignore[attr-defined]
    assert on_gpu.identity()["encoder_commit"] == COMMIT  # type: ignore[attr-defined]
    assert on_gpu.identity()["head_sha256"] == PUBLISHED_SHA256  # type: ignore[attr-defined]
    assert settled(find("aesthetic?dtype=fp32"), "cuda").dtype == "fp32"  # type: ignore[attr-defined]


def test_a_draft_decodes_large_photographs_smaller_and_gives_nearly_the_same_pixels(
    tagger: Aesthetic,
) -> None:
    large = Image.fromarray(data.astronaut()).resize((3200, 2400))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=95)
    drafted = replace(tagger, draft=True)
    with Image.open(buffer) as decoded:
        whole = tagger.load("cpu").prepare({"image": decoded.convert("RGB")}).astype(int)

    near = drafted.load("cpu").prepare({"bytes": buffer.getvalue()}).astype(int)

    assert 0 < np.abs(near - whole).mean() < 2
    assert predict(drafted, [b"broken", None])["AESTHETIC_ERROR"].to_pylist() == [
        "not an image",
        "null image",
    ]


@pytest.mark.parametrize(
    ("name", "parameters", "text"),
    [
        ("no folder", {"encoder": "/nowhere/at/all"}, "no folder"),
        ("no head", {"head": "nowhere.pth"}, "no head at"),
        ("dtype", {"dtype": "fp8"}, "give fp32 or bf16"),
        ("revision of a folder", {"revision": "main"}, "no revision"),
        ("device", {"device": "abacus"}, "is no device"),
        ("no device for it", {"device": "meta"}, "does not run on meta"),
        ("no GPU", {"device": "cuda:9"}, "there is no cuda:9 here"),
    ],
)
def test_a_parameter_that_cannot_be_is_named(
    name: str, parameters: dict[str, str], text: str, tagger: Aesthetic
) -> None:
    with pytest.raises(BadTagger, match=text) as caught:
        predict(replace(tagger, **parameters), [])

    assert "\n" not in str(caught.value)


def test_a_gpu_that_only_emulates_bf16_is_refused_unless_fp32_is_asked_for() -> None:
    import torch

    old = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        device=lambda place: nullcontext(),
        is_bf16_supported=lambda including_emulation: including_emulation,
    )
    as_torch = SimpleNamespace(device=torch.device, cuda=old)

    assert _device(as_torch, "cuda:0", "fp32") == torch.device("cuda:0")
    with pytest.raises(BadTagger, match=r"cuda:0 has no bf16.*dtype=fp32"):
        _device(as_torch, "cuda:0", "bf16")


def test_what_a_program_has_set_for_its_gpu_holds_while_it_scores(
    tagger: Aesthetic, images: list[bytes]
) -> None:
    import torch

    cudnn = torch.backends.cudnn
    model = tagger.load("cpu")
    seen: list[tuple[bool, ...]] = []
    model._encoder._model.register_forward_pre_hook(
        lambda module, args: seen.append((cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32))
    )

    with cudnn.flags(enabled=True, benchmark=True, deterministic=True):
        model.predict([model.prepare({"image": Image.open(io.BytesIO(images[0])).convert("RGB")})])

    assert seen == [(True, True, False)]


def test_a_head_for_another_encoder_or_of_another_kind_is_refused(tagger: Aesthetic, tmp_path: Path) -> None:
    import torch

    torch.save({"scoring_head.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")

    with pytest.raises(BadTagger, match=f"vectors of 64 numbers.*gives {DIMENSION}"):
        predict(replace(tagger, head=str(head(tmp_path / "wide.pth", dimension=64))), [])
    with pytest.raises(BadTagger, match=r"no head of the v2\.5 predictor"):
        predict(replace(tagger, head=str(tmp_path / "other.pth")), [])
    for name in ("noise.pth", "noise.safetensors"):
        with pytest.raises(BadTagger, match="cannot be read as weights"):
            predict(replace(tagger, head=str(tmp_path / name)), [])


def test_a_head_that_is_a_program_is_not_run(tagger: Aesthetic, tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump({"scoring_head.0.weight": Program()}, file, protocol=2)

    with pytest.raises(BadTagger, match="cannot be read as weights"):
        predict(replace(tagger, head=str(tmp_path / "evil.pth")), [])
    assert not (tmp_path / "ran").exists()


def test_a_head_in_safetensors_is_the_same_head(
    tagger: Aesthetic, images: list[bytes], tmp_path: Path
) -> None:
    other = replace(tagger, head=str(head(tmp_path / "head.safetensors")))

    assert scores(other, images) == scores(tagger, images)


def test_an_encoder_without_all_its_weights_or_of_another_kind_is_refused(
    tagger: Aesthetic, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    short = Path(shutil.copytree(tagger.encoder, tmp_path / "short"))
    tensors = load_file(short / "model.safetensors")
    del tensors["head.probe"]
    save_file(tensors, short / "model.safetensors", {"format": "pt"})
    other = Path(shutil.copytree(tagger.encoder, tmp_path / "other"))
    (other / "config.json").write_text(json.dumps({"model_type": "clip"}))

    with pytest.raises(BadTagger, match=r"lacks 1 weights of the vision tower, head\.probe"):
        predict(replace(tagger, encoder=str(short)), [])
    with pytest.raises(BadTagger, match="'clip'; the aesthetic model needs a SigLIP"):
        predict(replace(tagger, encoder=str(other)), [])


def test_the_preprocessed_image_is_small(tagger: Aesthetic, images: list[bytes]) -> None:
    prepared = tagger.load("cpu").prepare({"image": Image.open(io.BytesIO(images[0])).convert("RGB")})

    assert (prepared.dtype, prepared.shape) == (np.uint8, (SIDE, SIDE, 3))


def test_fp32_is_rounded_to_ten_bits_on_no_gpu(tagger: Aesthetic, images: list[bytes]) -> None:
    import torch

    def allowed() -> tuple[bool, bool]:
        return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32

    model, seen = tagger.load("cpu"), []
    model._encoder._model.register_forward_pre_hook(lambda module, args: seen.append(allowed()))
    image = Image.open(io.BytesIO(images[0])).convert("RGB")

    torch.set_float32_matmul_precision("high")  # as a program may, or a container by its environment
    try:
        model.predict([model.prepare({"image": image})])
        after = allowed()
    finally:
        torch.set_float32_matmul_precision("highest")

    assert seen == [(False, False)]
    assert after == (True, True)
