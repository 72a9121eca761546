from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exports import imported
from fakes import DigestLabel, ReturnsNaN
from here import tag
from tars import sample


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "dataset")


@pytest.fixture(scope="session")
def tagged_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 rows with labels, one of them failed."""
    folder = tmp_path_factory.mktemp("tagged")
    rows = [sample(f"photos/{n:03d}", {"n": n, "big": 1 << 70}, txt=b"caption %d" % n) for n in range(25)]
    uri = imported(folder, *rows)
    tag(uri, [DigestLabel(), ReturnsNaN(marker=b"007")])
    return Path(uri)


@pytest.fixture
def tagged(tagged_once: Path, tmp_path: Path) -> str:
    """A dataset with labels that a test may change."""
    return str(shutil.copytree(tagged_once, tmp_path / "tagged"))
