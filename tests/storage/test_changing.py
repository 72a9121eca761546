"""A change of the schema whose answer gets lost is made once, and said to be made."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import lance
import pyarrow as pa
import pytest

import laketag
from laketag.lake.changing import change, set_field_metadata
from laketag.lake.location import Location
from proxy import proxied
from servers import Store, options

pytestmark = pytest.mark.slow

# Lance looks thrice itself whether a commit arrived, and then gives up.
IMPATIENT = {"timeout": "20s", "client_max_retries": "0", "client_retry_timeout": "1"}
LOST = 6
"""Requests whose answers get lost: the commit, those looks, and our own first ones."""
COMMITTING = rb"PUT \S*/dataset/_versions/"
# The second version may be lost, too, where a change takes two.
CHANGES: dict[str, tuple[Callable[[str, dict[str, str]], object], int]] = {
    "add-column": (lambda at, o: laketag.add_column(at, "C", "A + 1", storage_options=o), 0),
    "add-column --replace": (
        lambda at, o: laketag.add_column(at, "B", "A + 1", replace=True, storage_options=o),
        1,
    ),
    "drop-column": (lambda at, o: laketag.drop_column(at, "B", storage_options=o), 0),
    "rename-column": (lambda at, o: laketag.rename_column(at, "B", "C", storage_options=o), 0),
    "cast-column": (lambda at, o: laketag.cast_column(at, "B", "int64", storage_options=o), 0),
    "index": (lambda at, o: laketag.index(at, "A", storage_options=o), 0),
    "restore": (lambda at, o: laketag.restore(at, 1, storage_options=o), 0),
}
AFTER = {
    "add-column": (3, {"A": 1, "B": 1, "C": 2}),
    "add-column --replace": (4, {"A": 1, "B": 2}),
    "drop-column": (3, {"A": 1}),
    "rename-column": (3, {"A": 1, "C": 1}),
    "cast-column": (4, {"A": 1, "B": 1}),
    "index": (3, {"A": 1, "B": 1}),
    "restore": (3, {"A": 1}),
}
CASES = [(name, skipped) for name, (_, most) in CHANGES.items() for skipped in range(most + 1)]


def make(store: Store, uri: str) -> str:
    """Make a dataset of two versions; its second column says what made it."""
    lance.write_dataset(pa.table({"A": pa.array([1], pa.int32())}), uri, storage_options=store.options)
    laketag.add_column(uri, "B", "A", storage_options=store.options)
    return uri


def lose_the_answer(store: Store, uri: str, name: str, skipped: int) -> None:
    version, row = AFTER[name]
    with proxied(store.port) as proxy:
        proxy.fail("lose", COMMITTING, requests=LOST, skip=skipped)
        CHANGES[name][0](make(store, uri), options(proxy.endpoint) | IMPATIENT)

        assert proxy.failed == LOST, name
    dataset = lance.dataset(uri, storage_options=store.options)
    assert (name, dataset.version) == (name, version)
    assert dataset.to_table().to_pylist() == [row]
    if name == "cast-column":
        assert json.loads(dataset.schema.field("B").metadata[b"laketag"])["expression"] == "A"
    if name == "index":
        assert [each.name for each in dataset.describe_indices()] == ["A_idx"]


def test_a_change_whose_answer_gets_lost_is_made_once_and_said_to_be_made(store, uri):
    with ThreadPoolExecutor(len(CASES)) as pool:
        for future in [
            pool.submit(lose_the_answer, store, f"{uri}-{number}/dataset", *each)
            for number, each in enumerate(CASES)
        ]:
            future.result()


def test_what_is_said_of_a_column_is_set_once_where_the_answer_gets_lost(store, uri):
    make(store, uri)
    with proxied(store.port) as proxy:
        proxy.fail("lose", COMMITTING, requests=LOST)
        through = options(proxy.endpoint) | IMPATIENT
        set_field_metadata(Location.of(uri, through), {"A": {"said": "so"}})

        assert proxy.failed == LOST
    dataset = lance.dataset(uri, storage_options=store.options)
    assert (dataset.version, dataset.schema.field("A").metadata) == (3, {b"said": b"so"})


def test_a_change_that_arrived_is_found_though_another_writer_changed_it_on(store, uri):
    make(store, uri)
    location, attempts = Location.of(uri, store.options), []

    def rename(dataset: lance.LanceDataset) -> None:
        attempts.append(dataset.version)
        dataset.alter_columns({"path": "B", "name": "C"})
        laketag.rename_column(uri, "C", "D", storage_options=store.options)
        raise OSError("Error performing PUT: the answer got lost")

    change(location, rename, lambda _, after: "C" in after.schema.names)

    dataset = lance.dataset(uri, storage_options=store.options)
    assert attempts == [2]
    assert (dataset.version, dataset.schema.names) == (4, ["A", "D"])
