"""A program as people write one without laketag: Ray Data, `merge_columns` of each fragment, one Merge."""

from __future__ import annotations

import io
import sys

import lance
import pandas as pd
import pyarrow as pa
import ray
from PIL import Image

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
        frame = pd.DataFrame({"AESTHETIC_SCORE": scores, "AESTHETIC_TAG": tags})
        return pa.RecordBatch.from_pandas(frame, schema=LABELS)

    def __call__(self, row: dict[str, int]) -> dict[str, object]:
        """Merge the labels into a fragment."""
        fragment = self.dataset.get_fragment(row["item"])
        merged, schema = fragment.merge_columns(self.label, columns=["jpg"])
        return {"fragment": merged, "schema": schema}


BORDERS = [(7.1, "very aesthetic"), (5.5, "aesthetic"), (3.7, "displeasing")]


def main(uri: str, encoder: str, head: str) -> None:
    """Label a dataset."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    dataset = lance.dataset(uri)
    ids = [fragment.fragment_id for fragment in dataset.get_fragments()]
    labelled = ray.data.from_items(ids).map(Scorer, fn_constructor_args=(uri, encoder, head), concurrency=1)
    done = labelled.take_all()
    operation = lance.LanceOperation.Merge([row["fragment"] for row in done], done[0]["schema"])
    lance.LanceDataset.commit(uri, operation, read_version=dataset.version)


main(*sys.argv[1:])
