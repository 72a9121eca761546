"""What a tagger is: a model before it is loaded, and the model that it loads.

A tagger may also have these attributes; each is optional:

- `batch_size: int`: rows in one `predict` call, 32 where it is not given.
- `chunk_rows: int`: rows of a chunk, at least; 1,024 where it is not given. Fewer where a row takes seconds,
  so that all workers end at about the same time.
- `identity() -> Mapping[str, str]`: what determines its labels (model id, revision, sha256 of the
  weights, parameters, preprocessing, dtype). Without it a tagger's digest is that of its fields
  and of its own source code.
- `version: str | None`: stands for the source code in the digest.
- `packages: tuple[str, ...]`: distributions whose versions are noted beside the labels.
- `failed: Mapping[str, Any]`: what columns of a failed row hold, by column; null where it says nothing.
- `settled(device) -> Tagger`: itself with all that it left open put in (the dtype that suits the device,
  the commit of a branch, paths in full), so that the same labels have the same identity. Asked for once,
  where the run is planned; `load` is called on what it gives.
- `to_download() -> tuple[str, ...]`: what `load` would have to download, for `laketag taggers`.

A model may have:

- `begin(batch) -> Callable[[], pa.RecordBatch]`: starts on a batch and returns; the function waits for the
  labels. For devices that work by themselves: the next batch is begun before this one is waited for.
- `use_cores(count) -> None`: told how many of the machine's cores are its worker's, where several workers
  share a machine.
- `busy_seconds: float`: how long the device has been at work so far.

A model without `prepare` is given the row's one input as it is, or the mapping of its inputs by
role where the tagger reads more than one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import pyarrow as pa

from laketag.errors import BadTagger

IMAGE = "image"
"""The role of an image, decoded."""
BYTES = "bytes"
"""The role of an image's raw bytes."""
BATCH_SIZE = 32


class Model(Protocol):
    """A loaded model. One per worker process."""

    def prepare(self, row: Mapping[str, Any]) -> Any:
        """Turn one row, its inputs by role, into what `predict` takes.

        Runs on the CPU and is called from many threads at once. `image` is a Pillow image in
        RGB, shared by all taggers of the run: do not change it. `bytes` is the raw bytes, any
        other role the column's value, None where it is null. An exception fails this row alone,
        with the exception's text as its reason.
        """

    def predict(self, batch: list[Any]) -> pa.RecordBatch:
        """Label a batch: one row per input, in order, with exactly the tagger's columns.

        Called from one thread. A null or a NaN in any column of a row fails that row; so does an
        exception that persists when the row is tried alone.
        """


@runtime_checkable
class Tagger(Protocol):
    """A model before it is loaded: a frozen dataclass that pickles, compares and prints."""

    @property
    def name(self) -> str:
        """Lower case; its error and digest columns are `<NAME>_ERROR` and `<NAME>_DIGEST`."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Roles: `image` (decoded), `bytes` (raw image), or the name of any other column."""

    @property
    def columns(self) -> pa.Schema:
        """Its label columns, all nullable, without the error and digest columns."""

    def load(self, device: str) -> Model:
        """Load the weights on a device (`cpu`, `cuda:0`); once per worker process."""


def error_column(tagger: Tagger) -> str:
    """Name the column that says why a row has no label."""
    return f"{tagger.name.upper()}_ERROR"


def digest_column(tagger: Tagger) -> str:
    """Name the column of the digests of the inputs that the labels were made from."""
    return f"{tagger.name.upper()}_DIGEST"


def label_schema(tagger: Tagger) -> pa.Schema:
    """Give all columns that a tagger adds: its own, then the error and the digest column."""
    own = [field.with_nullable(True) for field in tagger.columns]
    return pa.schema(
        [*own, pa.field(error_column(tagger), pa.string()), pa.field(digest_column(tagger), pa.int64())]
    )


def errors_of(labels: pa.RecordBatch) -> pa.Array:
    """Give the error column of any tagger's labels: why a row has none, null where it has."""
    return labels.column(labels.num_columns - 2)


def batch_size_of(tagger: Tagger) -> int:
    """Give the rows of one `predict` call that the tagger asks for."""
    return int(getattr(tagger, "batch_size", BATCH_SIZE))


def failed_values(tagger: Tagger) -> dict[str, pa.Scalar]:
    """Give what columns of a failed row hold where that is not null, by column, in the columns' types."""
    told: Mapping[str, Any] = getattr(tagger, "failed", {})
    return {name: pa.scalar(value, tagger.columns.field(name).type) for name, value in told.items()}


def settled(tagger: Tagger, device: str) -> Tagger:
    """Let a tagger put in what it left open, for a device.

    Raises:
        BadTagger: what it names cannot be found.
    """
    settle = getattr(tagger, "settled", None)
    return check(settle(device)) if callable(settle) else tagger


def check(tagger: object) -> Tagger:
    """Give the tagger back if it is one.

    Raises:
        BadTagger: an attribute is missing or wrong; the text names it.
    """
    # Not by `isinstance` of the protocol: from Python 3.12 on that does not see what `__getattr__` gives.
    missing = [part for part in ("name", "reads", "columns", "load") if not hasattr(tagger, part)]
    if isinstance(tagger, type) or missing:
        what = f"it has no {', '.join(missing)}" if missing else "it is a class, not a value"
        raise BadTagger(f"{_shown(tagger)} is not a tagger: {what}; decorate a function with @laketag.tagger")
    tagger = cast("Tagger", tagger)
    if not isinstance(tagger.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", tagger.name):
        raise BadTagger(
            f"tagger name {tagger.name!r} is not lower-case letters, digits and underscores: rename it"
        )
    _check_reads(tagger.name, tagger.reads)
    _check_columns(tagger)
    size = getattr(tagger, "batch_size", BATCH_SIZE)
    if not isinstance(size, int) or size < 1:
        raise BadTagger(f"tagger {tagger.name}: batch_size is {size!r}; give a whole number from 1 on")
    _check_failed(tagger)
    return tagger


def check_together(taggers: Sequence[Tagger]) -> None:
    """Make sure that no two taggers of a run add columns of the same name.

    Raises:
        BadTagger: two taggers clash, also where their columns differ by case alone.
    """
    owner: dict[str, str] = {}
    for number, tagger in enumerate(taggers):
        if tagger.name in [other.name for other in taggers[:number]]:
            raise BadTagger(
                f"tagger {tagger.name} is given twice, and would fill the same columns: give it once"
            )
        for column in label_schema(tagger).names:
            other = owner.setdefault(column.lower(), tagger.name)
            if other != tagger.name:
                raise BadTagger(
                    f"taggers {other} and {tagger.name} both add {column}: run them one at a time"
                )


def _check_reads(name: str, reads: object) -> None:
    is_names = isinstance(reads, tuple) and bool(reads) and all(isinstance(r, str) and r for r in reads)
    if not is_names or len(set(cast("tuple[str, ...]", reads))) != len(cast("tuple[str, ...]", reads)):
        raise BadTagger(f"tagger {name}: reads is {reads!r}; give a tuple of different roles, as ('image',)")


def _check_columns(tagger: Tagger) -> None:
    columns = tagger.columns
    if not isinstance(columns, pa.Schema) or len(columns) == 0:
        raise BadTagger(
            f"tagger {tagger.name}: columns is {columns!r}; give a pyarrow schema of at least one column"
        )
    lowered = [name.lower() for name in label_schema(tagger).names]
    for column in columns.names:
        if not column or lowered.count(column.lower()) > 1:
            raise BadTagger(f"tagger {tagger.name}: column {column!r} is empty, given twice or reserved")
        if not re.fullmatch(r"[^\W_][\w -]*", column):
            raise BadTagger(
                f"tagger {tagger.name}: column {column!r} is no name that a dataset can hold; begin it with "
                "a letter or a digit, and go on with letters, digits, underscores, spaces and dashes"
            )


def _check_failed(tagger: Tagger) -> None:
    try:
        failed_values(tagger)
    except (AttributeError, KeyError, TypeError, pa.ArrowException) as error:
        raise BadTagger(
            f"tagger {tagger.name}: failed is {getattr(tagger, 'failed', None)!r}; give a dict from some of "
            "its columns to what they hold in a failed row"
        ) from error


def _shown(value: object) -> str:
    return value.__qualname__ if isinstance(value, type) else repr(value)[:80]
