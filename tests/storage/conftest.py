"""The stores that these tests run on: one of each for a whole session of tests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from servers import BUCKET, Store, rclone, seaweedfs

_numbers = itertools.count()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """SeaweedFS: a store that honours put-if-absent."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as running:
        yield running


@pytest.fixture(scope="session")
def unsafe_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """`rclone serve s3`: a store that does not."""
    with rclone(tmp_path_factory.mktemp("rclone")) as running:
        yield running


@pytest.fixture
def uri() -> str:
    """A place on a store that no other test uses."""
    return f"s3://{BUCKET}/{next(_numbers)}/dataset"
