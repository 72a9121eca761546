"""`aesthetic`: the v2.5 aesthetic predictor, a SigLIP vision tower with a small head."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pyarrow as pa
from PIL import Image

from laketag.errors import BadTagger
from laketag.taggers.decode import opened, pixels
from laketag.taggers.protocol import BYTES, IMAGE
from laketag.taggers.scoring import (
    ERROR_TAG,
    PUBLISHED,
    THRESHOLDS,
    Head,
    check_thresholds,
    head_digest,
    is_head_here,
    label_fields,
    labels,
    normalised,
    read_head,
    settled_head,
)
from laketag.taggers.siglip import (
    PREPROCESSING,
    CudaEncoder,
    Dtype,
    Encoder,
    Pixels,
    Vectors,
    load_encoder,
    sizes,
    squashed,
)
from laketag.taggers.weights import (
    brought_here,
    commit_of,
    digest_of_folder,
    here,
    is_commit,
    is_hub_id,
    local_folder,
)

ENCODER = "google/siglip-so400m-patch14-384"
"""The encoder that the published head was made for."""
COMMIT = "9fdffc58afc957d1a03a25b10dba0329ab15c2a3"
_DIMENSION = 1152
# A draft is at least so large: twice the model's side, so that bicubic still has something to weigh.
_DRAFT_SIDE = 768
_DRAFT_GAP = 2.0


@dataclass(frozen=True)
class Aesthetic:
    """How beautiful people would find an image, from 1 to 10."""

    encoder: str = ENCODER
    """A SigLIP model's folder, or its id on the hub."""
    revision: str = ""
    """Commit, branch or tag on the hub; where empty, a fixed commit of the default encoder, else `main`."""
    head: str = PUBLISHED
    """A `.pth` or a `.safetensors`."""
    dtype: Dtype = "auto"
    """Of the encoder; `auto` is bf16 on a GPU and fp32 on a CPU. Norm and head are in full precision."""
    device: str = ""
    """Where it runs, whatever the device of the run is."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """Above which a score is very aesthetic, aesthetic, displeasing."""
    prefix: str = "AESTHETIC"
    """Of its columns; in lower case, its name."""
    embedding: str = ""
    """Name of a column for the image's vector, normalised, in float16; none where empty."""
    draft: bool = False
    """Whether large JPEGs are decoded at a reduced size: faster, and scores differ a little."""

    weights: ClassVar[str] = f"{ENCODER} (3.5 GB) and the v2.5 head, from where they are published, or local"
    extra: ClassVar[str] = "aesthetic"
    modules: ClassVar[tuple[str, ...]] = ("torch", "transformers", "safetensors")
    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")

    def __post_init__(self) -> None:
        """Refuse parameters that cannot be.

        Raises:
            BadTagger: naming the parameter.
        """
        check_thresholds("aesthetic", self.thresholds)
        if self.dtype not in get_args(Dtype):
            raise BadTagger(f"aesthetic: dtype is {self.dtype!r}; give fp32 or bf16")
        if self.revision and not is_hub_id(self.encoder):
            raise BadTagger(
                f"aesthetic: {self.encoder} is no model on the hub, so it has no revision: leave it out"
            )

    @property
    def name(self) -> str:
        """The prefix in lower case: two predictors on one dataset have two names."""
        return self.prefix.lower()

    @property
    def reads(self) -> tuple[str, ...]:
        """The decoded image; its bytes where it decodes them by itself, in its own way."""
        return (BYTES,) if self.draft else (IMAGE,)

    @property
    def columns(self) -> pa.Schema:
        """Score and tag, then the vector where it is asked for."""
        fields = label_fields(self.prefix)
        if self.embedding:
            kind = pa.list_(pa.float16(), self.dimension)
            fields.append(
                pa.field(self.embedding, kind, metadata={"description": "normalised vector of the image"})
            )
        return pa.schema(fields)

    @property
    def failed(self) -> Mapping[str, str]:
        """What columns of a failed row hold instead of null."""
        return {f"{self.prefix}_TAG": ERROR_TAG}

    @property
    def batch_size(self) -> int:
        """On a CPU few, since all of them are lost together.

        On a GPU many: to begin a batch takes Python as long whatever its size, and decoding waits meanwhile.
        """
        return 64 if self.device.startswith("cuda") else 4

    @property
    def chunk_rows(self) -> int:
        """On a CPU few: a row takes seconds."""
        return 1024 if self.device.startswith("cuda") else 128

    @property
    def dimension(self) -> int:
        """The length of the encoder's vectors.

        Raises:
            BadTagger: the encoder cannot be found, or the hub not be reached.
        """
        return _DIMENSION if self.encoder == ENCODER else sizes(self._folder())[1]

    def settled(self, device: str) -> Aesthetic:
        """Put in what is left open: paths in full, the commit of a branch, and what the device decides.

        Raises:
            BadTagger: there is no such file or folder, or the hub cannot be reached.
        """
        kind = (self.device or device).partition(":")[0]
        is_hub = is_hub_id(self.encoder)
        return replace(
            self,
            encoder=self.encoder if is_hub else str(local_folder(self.encoder)),
            revision=commit_of(self.encoder, self._revision) if is_hub else "",
            head=settled_head(self.head),
            dtype=("bf16" if kind == "cuda" else "fp32") if self.dtype == "auto" else self.dtype,
            device=self.device or kind,
        )

    def identity(self) -> Mapping[str, str]:
        """Say what determines the labels: commit or sha256 of the weights, and the parameters.

        Raises:
            BadTagger: as `settled`.
        """
        if is_hub_id(self.encoder):
            encoder = {"encoder": self.encoder, "encoder_commit": commit_of(self.encoder, self._revision)}
        else:
            encoder = {"encoder": "local", "encoder_sha256": digest_of_folder(local_folder(self.encoder))}
        draft = f", from a draft of at least {_DRAFT_SIDE} pixels a side" if self.draft else ""
        return {
            **encoder,
            "model": "aesthetic predictor v2.5",
            "head_sha256": head_digest(self.head),
            "preprocessing": PREPROCESSING + draft,
            "dtype": self.dtype,
            "thresholds": ", ".join(repr(float(threshold)) for threshold in self.thresholds),
            "embedding": self.embedding,
        }

    def to_download(self) -> tuple[str, ...]:
        """Name what the first run would download; asks nobody."""
        commit = self._revision if is_commit(self._revision) else "main"
        is_encoder_here = not is_hub_id(self.encoder) or here(self.encoder, commit) is not None
        wanted = {self.encoder: is_encoder_here, "the v2.5 head": is_head_here(self.head)}
        return tuple(what for what, is_here in wanted.items() if not is_here)

    def load(self, device: str) -> AestheticModel:
        """Load the vision tower and the head; what is not on this machine is downloaded.

        Raises:
            MissingExtra: torch or transformers is not installed.
            BadTagger: weights that cannot be had, do not fit together, or a device that is not there.
        """
        head = read_head(self.head)
        folder = self._folder()
        _, dimension = sizes(folder)
        if len(head.weight) != dimension:
            raise BadTagger(
                f"the head takes vectors of {len(head.weight)} numbers, and the encoder {self.encoder} gives "
                f"{dimension}; give a head that was made for this encoder"
            )
        place = device if self.device in ("", device.partition(":")[0]) else self.device
        encoder = load_encoder(folder, place, self.dtype)
        if isinstance(encoder, CudaEncoder):
            return CudaAestheticModel(self, encoder, head)
        return AestheticModel(self, encoder, head)

    @property
    def _revision(self) -> str:
        return self.revision or (COMMIT if self.encoder == ENCODER else "main")

    def _folder(self) -> Path:
        if is_hub_id(self.encoder):
            return brought_here(self.encoder, commit_of(self.encoder, self._revision))
        return local_folder(self.encoder)


class AestheticModel:
    """A loaded `Aesthetic`."""

    def __init__(self, tagger: Aesthetic, encoder: Encoder, head: Head) -> None:
        """Take the loaded parts of a tagger."""
        self._tagger = tagger
        self._encoder = encoder
        self._head = head

    def use_cores(self, count: int) -> None:
        """Compute with so many threads."""
        self._encoder.use_cores(count)

    def prepare(self, row: Mapping[str, Any]) -> Pixels:
        """Give the image's pixels at the model's size, as bytes: they are scaled where the model is."""
        if self._tagger.draft:
            return squashed(_drafted(row[BYTES]), self._encoder.side, gap=_DRAFT_GAP)
        return squashed(row[IMAGE], self._encoder.side)

    def predict(self, batch: list[Pixels]) -> pa.RecordBatch:
        """Score and tag a batch."""
        return self._labels(self._encoder.vectors(batch))

    def _labels(self, vectors: Vectors) -> pa.RecordBatch:
        columns = labels(self._head.scores(vectors), self._tagger.thresholds)
        if self._tagger.embedding:
            unit = normalised(vectors).astype(np.float16)
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(unit.ravel()), unit.shape[1]))
        return pa.RecordBatch.from_arrays(columns, schema=self._tagger.columns)


class CudaAestheticModel(AestheticModel):
    """A loaded `Aesthetic` on a GPU, where a batch can be begun before the one before it has ended."""

    def __init__(self, tagger: Aesthetic, encoder: CudaEncoder, head: Head) -> None:
        """Take the loaded parts of a tagger."""
        super().__init__(tagger, encoder, head)
        self._cuda = encoder

    @property
    def busy_seconds(self) -> float:
        """How long the GPU was at work."""
        return self._cuda.busy_seconds

    def begin(self, batch: list[Pixels]) -> Callable[[], pa.RecordBatch]:
        """Start on a batch; the function that is returned waits for its labels."""
        wait = self._cuda.begin(batch)
        return lambda: self._labels(wait())


def _drafted(data: bytes | None) -> Image.Image:
    image = opened(data)
    # A JPEG's decoder halves as it goes; others are left whole.
    image.draft("RGB", (_DRAFT_SIDE, _DRAFT_SIDE))
    return pixels(image)
