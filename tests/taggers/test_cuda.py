"""The aesthetic model's way on a GPU, on a CPU that passes for one."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laketag.taggers.aesthetic import Aesthetic, AestheticModel, CudaAestheticModel
from laketag.taggers.siglip import CudaEncoder
from siglips import SIDE, encoder, head

pytestmark = pytest.mark.slow


class Stream:
    def __init__(self, device: object) -> None:
        self.device = device

    def wait_stream(self, stream: Stream) -> None:
        assert stream is not self


class Event:
    """It tells of a second between any two."""

    made: list[Event]

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.is_blocking = blocking
        self.is_recorded = self.is_waited_for = False
        Event.made.append(self)

    def record(self, stream: Stream) -> None:
        self.is_recorded = True

    def synchronize(self) -> None:
        assert self.is_recorded
        self.is_waited_for = True

    def elapsed_time(self, end: Event) -> float:
        assert self.is_recorded
        assert end.is_recorded
        return 1000.0


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let a CPU pass for a GPU; gives all memory that was pinned, kept so that none is used again."""
    import torch

    Event.made = []
    here, empty = Stream("here"), torch.empty
    made: list[Any] = []

    def allocated(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        tensor = empty(*shape, **options)
        if pin_memory:
            made.append(tensor)
        return tensor

    monkeypatch.setattr(torch, "empty", allocated)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: here)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None, raising=False)
    return made


@pytest.fixture
def models(pinned: list[Any], tmp_path: Path) -> tuple[AestheticModel, CudaAestheticModel]:
    tagger = Aesthetic(encoder=str(encoder(tmp_path / "vision")), head=str(head(tmp_path / "head.pth")))
    model = tagger.load("cpu")
    cuda = CudaEncoder(model._encoder._model, SIDE)
    return model, CudaAestheticModel(tagger, cuda, model._head)


def batches(count: int) -> list[list[Any]]:
    random = np.random.default_rng(3)
    return [list(random.integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)) for _ in range(count)]


def test_batches_that_are_begun_ahead_give_the_labels_of_a_cpu(
    models: tuple[AestheticModel, CudaAestheticModel],
) -> None:
    model, cuda = models
    given = batches(4)

    waits = [cuda.begin(batch) for batch in given]
    found = [wait() for wait in waits]

    assert found == [model.predict(batch) for batch in given]
    assert cuda.busy_seconds == len(given)


def test_memory_that_a_copy_reads_is_not_written_before_the_copy_has_ended(
    models: tuple[AestheticModel, CudaAestheticModel], pinned: list[Any]
) -> None:
    # As where a batch that does not fit is tried again in parts, while the one after it is at work.
    _, cuda = models

    for batch in batches(3):
        cuda.begin(batch)

    given = [memory.data_ptr() for memory in pinned if memory.dim() == 4]
    assert len(set(given)) == 3


def test_who_waits_for_a_gpu_sleeps(models: tuple[AestheticModel, CudaAestheticModel]) -> None:
    _, cuda = models

    cuda.predict(batches(1)[0])

    assert [event.is_blocking for event in Event.made if event.is_waited_for] == [True]
