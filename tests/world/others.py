"""What other programs do to a dataset: to its rows, to its images, to its columns, and to its history."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.file import LanceFileWriter
from lance.fragment import DataFile

from world import looks
from world.watched import Some, image, label_of

OF_LANCE = (OSError, ValueError, RuntimeError)
STEPS = (
    *(
        "append",
        "delete",
        "update",
        "replace",
        "merge",
        "in_place",
        "whole_file",
        "compact",
        "restore",
        "cleanup",
    ),
    *("index", "other_column"),
)
"""What they may do in the middle of a run, too."""


class Others:
    """A dataset, and the programs that know nothing of laketag."""

    def __init__(self, uri: str, *, stable_row_ids: bool) -> None:
        """Make 40 rows in four fragments."""
        self.uri = uri
        self.number = 0
        self.edition = 0
        self.since = 0
        """What was staged before this version is lost: its rows were moved, and the history cleaned away."""
        self.moved = 0
        """The version that moved rows last."""
        lance.write_dataset(self.rows(40), uri, max_rows_per_file=11, enable_stable_row_ids=stable_row_ids)

    @property
    def dataset(self) -> Any:
        return lance.dataset(self.uri)

    @property
    def numbers(self) -> list[int]:
        """The numbers of all rows."""
        return sorted(self.dataset.to_table(columns=["number"])["number"].to_pylist())

    def rows(self, count: int) -> pa.Table:
        """Make new rows."""
        numbers = range(self.number, self.number + count)
        self.number += count
        return self.table(list(numbers))

    def table(self, numbers: list[int]) -> pa.Table:
        """Make rows with new images."""
        self.edition += 1
        jpg, thumb = ([image(n, edition) for n in numbers] for edition in (self.edition, -self.edition))
        columns = {"jpg": pa.array(jpg, pa.binary()), "thumb": pa.array(thumb, pa.binary())}
        return pa.table(
            {**columns, "number": pa.array(numbers, pa.int64()), "extra": pa.array(numbers, pa.int64())}
        )

    def some(self, some: Some) -> str:
        return f"number % {some[0]} = {some[1]}"

    def append(self, count: int) -> None:
        self.dataset.insert(self.rows(count))

    def delete(self, some: Some) -> None:
        self.dataset.delete(self.some(some))

    def update(self, some: Some) -> None:
        self.dataset.update({"extra": "extra + 1"}, where=self.some(some))
        self.has_moved()

    def replace(self, some: Some, kind: str = "image") -> None:
        """Give some rows other images: `alike` ones, `bad` ones, or good ones that differ."""
        self.edition += 1
        number = "0" if kind == "alike" else "number"
        new = f"arrow_cast(concat('{kind} ', {number}, ' {self.edition}'), 'Binary')"
        self.dataset.update({"jpg": new}, where=self.some(some))
        self.has_moved()

    def merge(self, some: Some, new: int, is_whole: bool) -> None:
        """Bring rows with new images, some of which are there already."""
        numbers = [n for n in self.numbers if n % some[0] == some[1]]
        table = self.table(numbers)
        if is_whole:  # label columns and all, as one who has read them writes them again
            there = self.dataset.to_table(filter=self.some(some)).sort_by("number")
            for name in ("jpg", "thumb"):
                there = there.set_column(there.schema.get_field_index(name), name, table[name])
            table = there
        else:
            table = pa.concat_tables([table, self.rows(new)])
        builder = self.dataset.merge_insert("number").when_matched_update_all().when_not_matched_insert_all()
        builder.execute(table)
        self.has_moved()

    def in_place(self, fragment: int, some: Some, column: str) -> None:
        """Change values of one fragment without moving its rows."""
        dataset = self.dataset
        fragments = dataset.get_fragments()
        one = fragments[fragment % len(fragments)]
        numbers = [
            n for n in one.to_table(columns=["number"])["number"].to_pylist() if n % some[0] == some[1]
        ]
        if not numbers:
            return
        updated, fields = one.update_columns(self.table(numbers).select(["number", column]), left_on="number")
        operation = lance.LanceOperation.Update(
            updated_fragments=[updated], fields_modified=fields, update_mode="rewrite_columns"
        )
        lance.LanceDataset.commit(self.uri, operation, read_version=dataset.version)
        self.has_moved()

    def whole_file(self, fragment: int, some: Some) -> None:
        """Put another data file in the place of a fragment's own; some images differ in it."""
        dataset = self.dataset
        fragments = dataset.get_fragments()
        one = fragments[fragment % len(fragments)]
        names = ["jpg", "thumb", "number", "extra"]
        ids = [dataset.lance_schema.field(name).id() for name in names]
        [*old] = [file for file in one.metadata.files if file.fields == ids]
        if not old:
            return  # it was written together with labels
        live = one.scanner(columns=names, with_row_address=True).to_table()
        table = self.table([-1] * one.metadata.physical_rows).to_pylist()
        changed = self.table(live["number"].to_pylist()).to_pylist()
        for row, new in zip(live.to_pylist(), changed, strict=True):
            place = row.pop("_rowaddr") & 0xFFFFFFFF
            table[place] = {**row, "jpg": new["jpg"]} if row["number"] % some[0] == some[1] else row
        name = f"theirs-{self.edition}.lance"
        with LanceFileWriter(f"{self.uri}/data/{name}", version=dataset.data_storage_version) as writer:
            writer.write_batch(pa.Table.from_pylist(table, schema=self.table([]).schema))
        version = (old[0].file_major_version, old[0].file_minor_version)
        size = Path(self.uri, "data", name).stat().st_size
        file = DataFile(name, old[0].fields, old[0].column_indices, *version, size)
        group = lance.LanceOperation.DataReplacementGroup(one.fragment_id, file)
        lance.LanceDataset.commit(
            self.uri, lance.LanceOperation.DataReplacement([group]), read_version=dataset.version
        )
        self.has_moved()

    def overwrite(self, count: int) -> None:
        lance.write_dataset(self.rows(count), self.uri, mode="overwrite", max_rows_per_file=11)
        self.has_moved()

    def compact(self, target: int) -> None:
        self.dataset.optimize.compact_files(
            target_rows_per_fragment=target, materialize_deletions_threshold=0.0
        )
        self.has_moved()

    def restore(self, back: int) -> None:
        """Go back so many versions, if they are there."""
        version = max(1, self.dataset.version - back)
        with suppress(*OF_LANCE):
            lance.dataset(self.uri, version=version).restore()
            self.has_moved()

    def cleanup(self) -> None:
        """Delete all old versions, as other programs do."""
        self.dataset.cleanup_old_versions(timedelta(0), error_if_tagged_old_versions=False)
        self.since = self.moved

    def has_moved(self) -> None:
        self.moved = self.dataset.version

    def index(self, column: str) -> None:
        if column in self.dataset.schema.names:
            self.dataset.create_scalar_index(column, "BTREE", replace=True)

    def other_column(self) -> None:
        if "other" in self.dataset.schema.names:
            self.dataset.drop_columns(["other"])
        else:
            self.dataset.add_columns({"other": "number + 1"})

    def make_labels(self, name: str, some: Some) -> None:
        """Make a tagger's labels of some rows, in the place of its own."""
        one = looks.job(name)
        there = [column for column in one.columns.names if column in self.dataset.schema.names]
        if there:
            self.dataset.drop_columns(there)

        @lance.batch_udf(output_schema=one.tagger.columns)
        def made(batch: pa.RecordBatch) -> pa.RecordBatch:
            rows = batch.to_pylist()
            labels = [label_of(r["jpg"]) if r["number"] % some[0] == some[1] else None for r in rows]
            return pa.record_batch([pa.array(labels, pa.int64())], schema=one.tagger.columns)

        self.dataset.add_columns(made, read_columns=["jpg", "number"])
