"""What other programs do to a dataset: every kind of write, each as a value, on one small dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lance
import pyarrow as pa
from lance.file import LanceFileWriter
from lance.fragment import DataFile

import datasets
from datasets import Storage

LABELS = ("SHA", "COUNTING_ERROR", "COUNTING_DIGEST")


@dataclass(frozen=True)
class Write:
    """One thing that another writer does."""

    do: Callable[[str], object]
    """Called with the dataset's URI."""
    ends: str = ""
    """How a run ends that it makes pointless; empty where it makes none so."""
    takes_labels: bool = False
    """Whether it takes committed labels away on purpose, so that they are made again."""

    def __str__(self) -> str:
        return self.do.__name__


def make(folder: Path, *, stable_row_ids: bool) -> str:
    """Write rows 0 to 59 in three fragments, and a column of no one's interest; version 2 lacks row 59."""
    dataset = lance.write_dataset(
        rows(range(60)), str(folder), max_rows_per_file=20, enable_stable_row_ids=stable_row_ids
    )
    dataset.delete("number = 59")
    return str(folder)


def rows(numbers: range, prefix: str = "") -> pa.Table:
    """Make rows with `jpg`, `number` and `extra`; another prefix makes other images."""
    images = pa.array([prefix.encode() + datasets.image(number) for number in numbers], pa.binary())
    table = datasets.table(numbers, Storage("binary", "2.2", stable_row_ids=True))
    return table.set_column(0, "jpg", images).append_column("extra", pa.array(list(numbers), pa.int32()))


def theirs(uri: str) -> object:
    """Read all that is not a tagger's: rows, columns with their types, indexes, configuration."""
    dataset = lance.dataset(uri)
    dataset.validate()
    names = [name for name in dataset.schema.names if name not in LABELS]
    table = dataset.to_table(columns=names)
    indexes = {index.name for index in dataset.describe_indices()}
    config = {key: value for key, value in dataset.config().items() if not key.startswith("lance.")}
    return table.schema, table.sort_by("number").to_pylist(), indexes, config


def append(uri: str) -> None:
    lance.dataset(uri).insert(rows(range(60, 70)))


def delete_rows(uri: str) -> None:
    lance.dataset(uri).delete("number % 7 = 3")


def delete_a_fragment(uri: str) -> None:
    lance.dataset(uri).delete("number between 20 and 39")


def delete_everything(uri: str) -> None:
    lance.dataset(uri).delete("true")


def update_another_column(uri: str) -> None:
    lance.dataset(uri).update({"extra": "extra + 1"}, where="number between 10 and 24")


def update_another_column_in_place(uri: str) -> None:
    _update_in_place(uri, "extra", pa.array([-1] * 5, pa.int32()))


def replace_images(uri: str) -> None:
    new = "arrow_cast(concat('new image ', number), 'Binary')"
    lance.dataset(uri).update({"jpg": new}, where="number between 15 and 24")


def replace_images_in_place(uri: str) -> None:
    _update_in_place(uri, "jpg", rows(range(5), "new ")["jpg"].combine_chunks())


def replace_the_images_file(uri: str) -> None:
    """Put a data file with other images in the place of a fragment's first one."""
    dataset = lance.dataset(uri)
    fragment = dataset.get_fragments()[0]
    old = fragment.metadata.files[0]
    names = ["jpg", "number", "extra"]
    if [dataset.lance_schema.field(name).id() for name in names] != old.fields:
        return replace_images_in_place(uri)  # compacted, or beside labels: there is no such file
    with LanceFileWriter(f"{uri}/data/theirs.lance", version=dataset.data_storage_version) as writer:
        writer.write_batch(rows(range(20), "other "))
    size = Path(uri, "data", "theirs.lance").stat().st_size
    version = (old.file_major_version, old.file_minor_version)
    file = DataFile("theirs.lance", old.fields, old.column_indices, *version, size)
    group = lance.LanceOperation.DataReplacementGroup(fragment.fragment_id, file)
    operation = lance.LanceOperation.DataReplacement([group])
    lance.LanceDataset.commit(uri, operation, read_version=dataset.version)
    return None


def merge_insert(uri: str) -> None:
    new = pa.concat_tables([rows(range(15, 20), "merged "), rows(range(70, 75))])
    builder = lance.dataset(uri).merge_insert("number")
    builder.when_matched_update_all().when_not_matched_insert_all().execute(new)


def compact(uri: str) -> None:
    lance.dataset(uri).optimize.compact_files(target_rows_per_fragment=1000)


def delete_and_compact(uri: str) -> None:
    delete_rows(uri)
    options = {"target_rows_per_fragment": 15, "materialize_deletions_threshold": 0.0}
    lance.dataset(uri).optimize.compact_files(**options)


def replace_images_and_compact(uri: str) -> None:
    replace_images(uri)
    compact(uri)


def a_long_day(uri: str) -> None:
    """Rows move again and again, and some of their images change on the way."""
    delete_rows(uri)
    update_another_column(uri)
    compact(uri)
    append(uri)
    replace_images(uri)
    update_another_column(uri)
    lance.dataset(uri).delete("number % 7 = 4")
    lance.dataset(uri).optimize.compact_files(
        target_rows_per_fragment=15, materialize_deletions_threshold=0.0
    )


def add_a_column(uri: str) -> None:
    lance.dataset(uri).add_columns({"doubled": "number * 2"})


def drop_a_column(uri: str) -> None:
    lance.dataset(uri).drop_columns(["extra"])


def rename_a_column(uri: str) -> None:
    lance.dataset(uri).alter_columns({"path": "extra", "name": "renamed"})


def cast_a_column(uri: str) -> None:
    lance.dataset(uri).alter_columns({"path": "extra", "data_type": pa.int64()})


def index(uri: str) -> None:
    lance.dataset(uri).create_scalar_index("number", "BTREE")


def index_and_compact(uri: str) -> None:
    index(uri)
    update_another_column(uri)
    compact(uri)


def configure(uri: str) -> None:
    lance.dataset(uri).update_config({"someone": "was here"})


def restore(uri: str) -> None:
    lance.dataset(uri, version=1).restore()


def overwrite(uri: str) -> None:
    lance.write_dataset(rows(range(100, 120)), uri, mode="overwrite")


def drop_the_images(uri: str) -> None:
    lance.dataset(uri).drop_columns(["jpg"])


def rename_the_images(uri: str) -> None:
    lance.dataset(uri).alter_columns({"path": "jpg", "name": "photo"})


WRITES = [
    *map(Write, (append, delete_rows, delete_a_fragment)),
    *map(Write, (update_another_column, update_another_column_in_place)),
    *map(Write, (replace_images, replace_images_in_place, replace_the_images_file, merge_insert)),
    *map(Write, (compact, delete_and_compact, replace_images_and_compact, a_long_day)),
    *map(Write, (add_a_column, drop_a_column, rename_a_column, cast_a_column, index, index_and_compact)),
    Write(configure),
    Write(restore, takes_labels=True),
]
POINTLESS = [
    Write(drop_the_images, ends="jpg"),
    Write(rename_the_images, ends="jpg"),
    Write(overwrite, ends="that was tagged is gone"),
    Write(delete_everything, ends="that was tagged is gone"),
]


def _update_in_place(uri: str, column: str, values: pa.Array) -> None:
    """Change rows 0 to 4 without moving them: the first fragment gets another data file for the column."""
    dataset = lance.dataset(uri)
    new = pa.table({"number": pa.array(range(5), pa.int64()), column: values})
    fragment, fields = dataset.get_fragments()[0].update_columns(new, left_on="number")
    operation = lance.LanceOperation.Update(
        updated_fragments=[fragment], fields_modified=fields, update_mode="rewrite_columns"
    )
    lance.LanceDataset.commit(uri, operation, read_version=dataset.version)
