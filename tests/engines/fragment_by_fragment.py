"""A program as people write one without laketag: actors label fragments with `merge_columns`, and one Merge.

Actors stand where Ray Data could, which needs pandas, which makes every import of Lance in the tests slow.
"""

from __future__ import annotations

import io
import sys

import lance
import pyarrow as pa
import ray
import ray._private.ray_constants as constants
from PIL import Image
from ray.util import ActorPool

constants.ENABLE_RAY_CLUSTER = False  # else Ray takes the machine's outer address, and listens there
LABELS = pa.schema([("AESTHETIC_SCORE", pa.float32()), ("AESTHETIC_TAG", pa.string())])


class Scorer:
    """Holds the model and gives a fragment its labels."""

    def __init__(self, uri: str, encoder: str, head: str) -> None:
        """Load dataset and weights."""
        import torch
        from transformers import SiglipVisionModel
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        self.dataset = lance.dataset(uri)
        self.encoder = SiglipVisionModel.from_pretrained(encoder).eval()
        self.processor = SiglipImageProcessorPil.from_pretrained(encoder)
        self.layers = list(torch.load(head).values())

    def score(self, data: bytes) -> float:
        """Score one image."""
        import torch

        image = Image.open(io.BytesIO(data)).convert("RGB")
        with torch.inference_mode():
            pixels = self.processor(images=image, return_tensors="pt").pixel_values
            vector = self.encoder(pixels).pooler_output
            vector = vector / vector.norm(dim=-1, keepdim=True)
            for weight, bias in zip(self.layers[::2], self.layers[1::2], strict=True):
                vector = vector @ weight.float().T + bias.float()
        return float(vector.squeeze())

    def label(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score and tag a batch; what cannot be scored is NaN and `error`."""
        scores, tags = [], []
        for data in batch.column("jpg").to_pylist():
            try:
                score = self.score(data)
                above = [name for border, name in BORDERS if score > border]
                scores.append(score)
                tags.append(above[0] if above else "very displeasing")
            except Exception:  # as such programs do
                scores.append(float("nan"))
                tags.append("error")
        return pa.record_batch([pa.array(scores, pa.float32()), pa.array(tags)], schema=LABELS)

    def run(self, fragment: int) -> tuple[object, object]:
        """Merge the labels into a fragment."""
        return self.dataset.get_fragment(fragment).merge_columns(self.label, columns=["jpg"])


BORDERS = [(7.1, "very aesthetic"), (5.5, "aesthetic"), (3.7, "displeasing")]


def main(uri: str, encoder: str, head: str) -> None:
    """Label a dataset."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
    dataset = lance.dataset(uri)
    pool = ActorPool([ray.remote(Scorer).remote(uri, encoder, head)])
    ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
    done = list(pool.map(lambda actor, number: actor.run.remote(number), ids))
    operation = lance.LanceOperation.Merge([fragment for fragment, _ in done], done[0][1])
    lance.LanceDataset.commit(uri, operation, read_version=dataset.version)


main(*sys.argv[1:])
