"""`adopt`: columns that another program made become a tagger's, so that it can go on where they end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laketag.engines import stopping
from laketag.engines.local import Local
from laketag.engines.protocol import Engine, require_engine
from laketag.errors import ColumnError, JobRefused
from laketag.lake import sql
from laketag.lake.changing import set_field_metadata
from laketag.lake.dataset import open_dataset, require_columns
from laketag.lake.explaining import explaining
from laketag.lake.labels import SQL, made_by, recorded
from laketag.lake.location import Location
from laketag.lake.pinning import pinned
from laketag.lake.reading import scan, values
from laketag.taggers.digest import input_digest
from laketag.taggers.protocol import Tagger, settled
from laketag.taggers.rows import Labels
from laketag.taggers.spec import find_or_check
from laketag.tagging.checked import known_after, write_checked
from laketag.tagging.compute import Compute, Work
from laketag.tagging.holding import leased_jobs
from laketag.tagging.job import ADOPTED_FROM, Job, columns_of_others, job_of, maker_of
from laketag.tagging.plan import Chunk
from laketag.tagging.preparing import Jobs, inputs_of, look, plan
from laketag.tagging.settings import Rows, TagSettings
from laketag.tagging.staging import ADOPTED
from laketag.tagging.task import Done, Task, Wanted
from laketag.tagging.underway import UnderWay

if TYPE_CHECKING:
    from laketag.lake.dataset import LanceDataset

# Code that was rewritten may mean the same: that is for the user to say.
_NOT_OF_MEANING = {"source", "version", "digest", "job", "inputs", ADOPTED_FROM}


@dataclass(frozen=True)
class AdoptReport:
    """What `adopt` took over. Counts are of rows."""

    uri: str
    version: int
    """The dataset's version after it."""
    columns: tuple[str, ...]
    """The tagger's columns, all there now."""
    labelled: int
    """Rows whose labels were taken over, those included that failed."""
    failed: int
    """Rows among them with a reason in the error column: some label of theirs is null."""
    missing: int
    """Rows without labels: the next `tag` computes them."""

    def to_json(self) -> dict[str, Any]:
        """Give the report as `laketag adopt` prints it with `--json`."""
        return asdict(self)


@explaining
def adopt(
    uri: str | PathLike[str],
    columns: str | Sequence[str],
    tagger: Tagger | str,
    *,
    storage_options: Mapping[str, str] | None = None,
    settings: TagSettings = TagSettings(),
    engine: Engine = Local(),
) -> AdoptReport:
    """Take over label columns that something else made, so that `tag` continues and does not mix them.

    The labels stay as they are; each row that has one gets the digest of its input, for which every such
    row is read once, and no model is run. A row with all labels null stays not computed; with only some of
    them null it failed. Labels of another laketag tagger keep their reasons, and are left behind where the
    image is no longer the one that they were made from.

    Args:
        uri: the dataset's.
        columns: label columns of the tagger; its other label columns come along.
        tagger: a value, or a name as `laketag tag --with` takes it.
        storage_options: for the dataset's store, as Lance takes them.
        settings: `column`, `inputs`, `chunk_rows` and `progress` are used.
        engine: where the inputs are read.

    Raises:
        WrongUsage: the engine is none.
        DatasetNotFound: there is no dataset.
        ColumnError: a column is missing, has another type than the tagger's, or is no column of the tagger.
        TaggerError: the tagger cannot be used.
        JobRefused: there is nothing to adopt, or a run of the tagger holds the lease.
        CommitError: no version could be made; the work is staged.
        Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    require_engine(engine)
    location = Location.of(uri, storage_options)
    dataset = open_dataset(location)
    found = settled(find_or_check(tagger), settings.devices[0])
    inputs = inputs_of(dataset.schema, [found], settings)
    job = job_of(found, inputs)
    columns = [columns] if isinstance(columns, str) else columns
    with leased_jobs(location, [job], settings.part):
        dataset = open_dataset(location)
        _check(dataset, job, columns)
        _digests_committed(location, dataset, job, inputs, settings=settings, engine=engine)
        # Last: until now `tag` refuses these columns, and this very command goes on.
        said = _provenance(dataset, job)
        set_field_metadata(location, dict.fromkeys(job.columns.names, said))
    dataset = open_dataset(location)
    labelled, failed = (_count_set(dataset, name) for name in (job.digest_column, job.error_column))
    return AdoptReport(
        location.uri,
        dataset.version,
        tuple(job.columns.names),
        labelled=labelled,
        failed=failed,
        missing=dataset.count_rows() - labelled,
    )


def _check(dataset: LanceDataset, job: Job, columns: Sequence[str]) -> None:
    own = job.tagger.columns
    for name in columns:
        if name not in own.names:
            raise ColumnError(
                f"tagger {job.name!r} has no label column {name!r}, it has {', '.join(own.names)}; "
                "rename-column gives a column its name"
            )
    require_columns(dataset.schema, own.names)
    for label in own:
        held = dataset.schema.field(label.name).type
        if held != label.type:
            raise ColumnError(
                f"column {label.name!r} is {held}, tagger {job.name!r} makes {label.type}: "
                f"`laketag cast-column` gives it that type"
            )
    if not columns_of_others(job, dataset.schema):
        raise JobRefused(f"tagger {job.name!r} made {', '.join(own.names)} itself; there is nothing to adopt")
    _check_model(dataset, job)
    there = [name for name in job.states if name in dataset.schema.names]
    if len(there) == 1:
        raise JobRefused(
            f"the dataset has {there[0]!r} without its other half; `laketag drop-column` it, then adopt again"
        )


def _check_model(dataset: LanceDataset, job: Job) -> None:
    """Refuse labels of which is known that something else made them, or this model with other parameters."""
    now = job.provenance
    for name in job.tagger.columns.names:
        before = made_by(dataset.schema.field(name))
        if before.get("tagger") == SQL:
            raise JobRefused(
                f"column {name!r} was made by {maker_of(dataset.schema, name)}, not by a model: it is not "
                "adopted; rename-column keeps it, `laketag tag --recompute` replaces it"
            )
        for key in sorted((before.keys() | now.keys()) - _NOT_OF_MEANING) if before else ():
            if not key.startswith("version.") and before.get(key) != now.get(key):
                raise JobRefused(
                    f"column {name!r} was made with {key} {before.get(key, 'unset')}, tagger {job.name!r} "
                    f"has {now.get(key, 'unset')}: labels of another model are not adopted; "
                    "`laketag tag --recompute` replaces them, rename-column keeps them apart"
                )


def _digests_committed(
    location: Location,
    dataset: LanceDataset,
    job: Job,
    inputs: tuple[tuple[str, str], ...],
    *,
    settings: TagSettings,
    engine: Engine,
) -> None:
    """Add the error and the digest column, for the rows that have labels."""
    labels = tuple(job.tagger.columns.names)
    columns = pa.schema([job.columns.field(name) for name in job.states])
    states = replace(job, columns=columns, taken_over=labels)
    has_states = all(name in dataset.schema.names for name in job.states)
    if has_states and not columns_of_others(states, dataset.schema):
        return  # an `adopt` broke off after this
    # Another laketag tagger's states say which rows have labels, and of which image.
    some = [job.digest_column] if has_states else labels
    rows = Rows(where=" or ".join(f"{sql.quote(name)} is not null" for name in some))
    seen = look(location, dataset, Jobs((states,), inputs, ADOPTED), rows=rows, settings=settings)
    if not seen.rows:
        raise JobRefused(f"no row has a label in {', '.join(labels)}; drop them, and `tag` makes them")
    run = plan(seen, settings)
    under_way = UnderWay(run, replace(settings, max_error_rate=1.0))
    with pinned(location, dataset.version, job.digest, settings.part):
        under_way.compute(Digest(run.compute, labels, has_states), engine)
        under_way.commit()
    after = open_dataset(location, under_way.outcome.version)
    outcome = under_way.outcome
    known = known_after(dataset, after, job, seen.checked[0], is_whole=False, outcome=outcome)
    write_checked(location, job, known)


@dataclass(frozen=True)
class Digest:
    """The function that the engine runs: digests of the inputs of rows that have labels, staged."""

    compute: Compute
    labels: tuple[str, ...]
    """The label columns."""
    has_states: bool
    """Whether error and digest column of another maker are there."""

    def __call__(self, task: Task) -> Done:
        """Read and digest the task's rows, chunk by chunk; no model, no decoding."""
        dataset = self.compute.dataset
        dataset.io_stats_incremental()
        work = Work(self.compute, dataset, task)
        for chunk in task.chunks:
            if stopping.requested():
                break
            wanted = work.wanted(chunk)
            if len(wanted.addresses):
                work.stage(chunk, [self._states(dataset, chunk, wanted)])
        return work.done(dataset.io_stats_incremental().read_bytes)

    def _states(self, dataset: LanceDataset, chunk: Chunk, wanted: Wanted) -> Labels:
        (job,) = self.compute.jobs
        held = [*self.labels, *(job.states if self.has_states else ())]
        columns = list(dict.fromkeys([*job.reads, *held]))
        only = None if wanted.is_all else wanted.addresses
        batches = scan(dataset, chunk.ranges, columns, addresses=only, row_bytes=self.compute.row_bytes)
        found = [self._of(job, batch) for batch in batches]
        return Labels(
            np.concatenate([positions for positions, _ in found]),
            pa.concat_batches([batch for _, batch in found]),
        )

    def _of(self, job: Job, batch: pa.RecordBatch) -> tuple[Any, pa.RecordBatch]:
        digests = pa.array(self._digests(job, batch), pa.int64())
        errors = _errors(batch, self.labels)
        if self.has_states:
            is_right = pc.equal(batch[job.digest_column], digests)
            # Staged as not computed, and not left out: the old states are gone where the commit breaks off.
            errors = pc.if_else(is_right, pc.coalesce(batch[job.error_column], errors), None)
            digests = pc.if_else(is_right, digests, None)
        states = pa.record_batch([errors, digests], names=list(job.states))
        return batch["_rowaddr"].to_numpy().astype(np.int64), states

    def _digests(self, job: Job, batch: pa.RecordBatch) -> Iterator[int]:
        inputs = dict(job.inputs)
        found = [values(batch[column]) for column in inputs.values()]
        for row in zip(*found, strict=True):
            yield input_digest(dict(zip(inputs, row, strict=True)))


def _errors(batch: pa.RecordBatch, labels: Sequence[str]) -> pa.Array:
    """Say which labels of a row are missing; null where none is."""
    reasons = pa.nulls(len(batch), pa.string())
    for name in labels:
        column = batch[name]
        is_missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
        reasons = pc.if_else(is_missing, pc.coalesce(reasons, f"adopted without {name}"), reasons)
    return reasons


def _provenance(dataset: LanceDataset, job: Job) -> dict[str, str]:
    """Say of adopted labels whose they are taken to be, and who had them before."""
    # The packages at hand are left out: which ones really made the labels is not known.
    kept = {key: value for key, value in job.provenance.items() if not key.startswith("version.")}
    before = maker_of(dataset.schema, job.tagger.columns.names[0])
    return recorded({**kept, ADOPTED_FROM: before})


def _count_set(dataset: LanceDataset, name: str) -> int:
    return int(dataset.count_rows(filter=f"{sql.quote(name)} is not null"))
