"""Chunks that killed their worker: computed in a process that may die, halved until the row is found."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from laketag.engines import stopping
from laketag.engines.local import Local
from laketag.errors import DeviceLost, WorkerLost
from laketag.lake.dataset import open_dataset
from laketag.taggers.digest import input_digest
from laketag.taggers.protocol import Tagger, failed_values, label_schema
from laketag.taggers.rows import Labels, Row
from laketag.tagging.labelling import Labelling
from laketag.tagging.plan import Chunk
from laketag.tagging.task import Wanted

_IN_VAIN = 16
"""So many rows that kill their process one after the other, and none that does not: it is not the rows."""


@dataclass(frozen=True)
class LabelRows:
    """What the child process does: label some rows of a chunk, and stage nothing."""

    labelling: Labelling
    chunk: Chunk

    def __call__(self, wanted: Wanted) -> list[Labels]:
        """Give one `Labels` per job."""
        dataset = open_dataset(self.labelling.location, self.labelling.version)
        rows = self.labelling.rows(dataset, self.chunk, wanted)
        for _, labels in self.labelling.pipeline().run([(self.chunk, rows)]):
            return labels
        return []


def carefully(labelling: Labelling, chunk: Chunk, wanted: Wanted) -> list[Labels]:
    """Label the rows of a chunk that was begun before and never staged.

    The rows are tried together first, in the same batches as ever, since most such chunks were cut
    short by something that has nothing to do with them.
    """
    if not len(wanted.addresses):
        return []
    # The process for it is the first of its own engine, and would take the first device.
    found = _in_pieces(LabelRows(replace(labelling, devices=(labelling.device,)), chunk), wanted)
    return [
        _joined([_nothing(job.tagger), *(labels[number] for labels in found if labels)])
        for number, job in enumerate(labelling.jobs)
    ]


def _in_pieces(label: LabelRows, wanted: Wanted) -> list[list[Labels]]:
    """Label the rows in a process; whenever it dies, in another one, which gets what killed it in halves.

    Raises:
        DeviceLost: on the first two rows that were tried alone, and none went well.
        WorkerLost: it died on the first seventeen, and none went well.
    """
    found: list[list[Labels]] = []
    failed = 0
    waiting = deque([wanted])
    while waiting and not stopping.requested():
        try:
            for labels in Local(workers=1, tries=1).run(label, list(waiting)):
                found.append(labels)
                waiting.popleft()
                if stopping.requested():
                    break
        except (WorkerLost, DeviceLost) as lost:
            if stopping.requested():
                break  # the process was told to stop as well, and that was all
            guilty = waiting.popleft()
            if len(guilty.addresses) > 1:
                waiting.extendleft(reversed(_halves(guilty)))
                continue
            if failed == len(found) >= (1 if isinstance(lost, DeviceLost) else _IN_VAIN):
                raise type(lost)(f"{lost}, on each of {failed + 1} rows that were tried alone") from lost
            found.append(_failed(label, guilty, lost))
            failed += 1
    return found


def _halves(wanted: Wanted) -> list[Wanted]:
    rows = len(wanted.addresses)
    return [wanted.part(0, rows // 2), wanted.part(rows // 2, rows)]


def _failed(label: LabelRows, wanted: Wanted, lost: WorkerLost | DeviceLost) -> list[Labels]:
    dataset = open_dataset(label.labelling.location, label.labelling.version)
    for row in label.labelling.rows(dataset, label.chunk, wanted):
        takers = range(len(wanted.by_job)) if row.wanted_by is None else row.wanted_by
        return [
            _failure(job.tagger, row, str(lost)) if number in takers else _nothing(job.tagger)
            for number, job in enumerate(label.labelling.jobs)
        ]
    return []  # the labels that it has are right: it was not read for the model


def _failure(tagger: Tagger, row: Row, reason: str) -> Labels:
    schema = label_schema(tagger)
    digest = input_digest({role: row.inputs[role] for role in tagger.reads})
    told = failed_values(tagger)
    held = [told.get(field.name, pa.scalar(None, field.type)) for field in tagger.columns]
    columns = [
        *(pa.array([value.as_py()], value.type) for value in held),
        pa.array([reason]),
        pa.array([digest], pa.int64()),
    ]
    return Labels(np.array([row.position], np.int64), pa.record_batch(columns, schema=schema))


def _nothing(tagger: Tagger) -> Labels:
    return Labels(np.empty(0, np.int64), pa.RecordBatch.from_pylist([], schema=label_schema(tagger)))


def _joined(labels: list[Labels]) -> Labels:
    positions = np.concatenate([one.positions for one in labels])
    return Labels(positions, pa.concat_batches([one.batch for one in labels]))
