"""`show` tells what is staged, and by which tagger."""

from __future__ import annotations

from pathlib import Path

import pytest

import laketag
from datasets import make
from fakes import DigestLabel


@pytest.mark.slow
def test_a_job_that_is_staged_is_shown_with_its_tagger(tmp_path: Path) -> None:
    uri = str(tmp_path / "data")
    make(tmp_path / "data")
    laketag.tag(uri, [DigestLabel()], settings=laketag.TagSettings(stage_only=True, chunk_rows=50))

    (job,) = laketag.show(uri).jobs

    assert (job.rows, job.tagger) == (300, DigestLabel().name)
