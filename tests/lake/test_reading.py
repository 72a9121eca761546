"""Rows as they are read: how many at a time, and as what taggers are given them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from imports import run
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.query import Selection, query
from laketag.lake.reading import row_bytes, scan, values
from laketag.shards.importing import ImportSettings
from laketag.taggers.digest import input_digest
from tars import write_tar

SIZE = 1_000_000


@pytest.mark.parametrize(
    "settings", [ImportSettings(), ImportSettings(image_encoding="blob"), ImportSettings(link=True)], ids=str
)
def test_batches_are_small_wherever_large_images_lie(tmp_path: Path, settings: ImportSettings) -> None:
    uri = str(tmp_path / "dataset")
    run(
        uri,
        write_tar(tmp_path / "a.tar", *([(f"{n}.jpg", os.urandom(SIZE))] for n in range(20))),
        settings=settings,
    )
    dataset = open_dataset(Location.of(uri))

    weight = row_bytes(dataset)
    batches = list(scan(dataset, [], ["jpg"], row_bytes=weight))
    asked = list(query(uri, selection=Selection(columns=("jpg",))))

    assert SIZE * 0.9 < weight < SIZE * 1.1
    for each in (batches, asked):
        assert max(map(len, each)) <= 8
        assert sum(map(len, each)) == 20


def test_a_vector_is_an_array_whatever_its_neighbours_are() -> None:
    kind = pa.list_(pa.float32(), 2)

    alone, *_ = values(pa.array([[1, 2]], kind))
    first, holed, missing = values(pa.array([[1, 2], [None, 3], None], kind))

    assert isinstance(first, np.ndarray)
    assert input_digest({"vector": first}) == input_digest({"vector": alone})
    assert (holed, missing) == ([None, 3.0], None)


def test_times_in_nanoseconds_are_given_to_the_microsecond() -> None:
    whole, inside = pa.array([1_999], pa.timestamp("ns")), pa.array([[1_999]], pa.list_(pa.timestamp("ns")))

    moment = datetime(1970, 1, 1, microsecond=1)
    assert (values(whole), values(inside)) == ([moment], [[moment]])
