"""Where the time of a run went, who waits for whom, and what would change it."""

from __future__ import annotations

from dataclasses import dataclass

from laketag.taggers.rows import Stats

# Threads, or a device, at work for less of the time than this are not what holds a run up.
_BUSY = 0.6

_ADVICE = {
    "decode": "more cores; more --workers where cores are idle: a worker's threads take turns in Python; "
    "draft=true where a tagger takes it",
    "read": "more --workers, or a store nearer to them: reading is slower than decoding",
    "model": "more --workers where cores are idle, a GPU, or a larger --batch-size: decoding could feed it",
    "device": "the device is busy: more of them, with --device cuda:0,cuda:1, or a smaller model",
}


@dataclass(frozen=True)
class Speed:
    """Shares of the workers' time, from 0 to 1."""

    bound_by: str
    """The slower side: `read`, `decode` or `model`."""
    model: float
    """In `predict`."""
    waiting: float
    """Waiting for decoded rows."""
    decoding: float
    """Decoding and preparing, of the decoding threads' time."""
    device: float | None
    """The models' devices at work; None where no model can tell, as on a CPU."""
    advice: str
    """What would make it faster."""

    @property
    def line(self) -> str:
        """Say it in a few words."""
        device = "" if self.device is None else f", device busy {self.device:.0%}"
        threads = f"decoding {self.decoding:.0%} of its threads"
        return f"{self.bound_by}-bound (model {self.model:.0%}, {threads}{device})"


def speed_of(stats: Stats) -> Speed | None:
    """Judge where the time went; None where nothing was computed."""
    if not stats.predicted or not stats.seconds:
        return None
    model, waiting = stats.predict_seconds / stats.seconds, stats.wait_seconds / stats.seconds
    decoding = (stats.decode_seconds + stats.prepare_seconds) / stats.thread_seconds
    device = stats.busy_seconds / stats.seconds if stats.busy_seconds else None
    bound_by = "model" if model >= waiting else "decode" if decoding >= _BUSY else "read"
    key = "device" if bound_by == "model" and (device or 0.0) >= _BUSY else bound_by
    return Speed(bound_by, model, waiting, min(1.0, decoding), device, _ADVICE[key])
