from __future__ import annotations

from pathlib import Path
from typing import Any

import lance.fragment
import pyarrow as pa
import pytest

from laketag.errors import CommitError
from laketag.lake.location import Location
from laketag.lake.writing import STORAGE_VERSION, BlobFileWriter

SCHEMA = pa.schema([("jpg", pa.binary())])


def test_a_file_of_blobs_has_as_many_rows_as_it_is_given(tmp_path: Path) -> None:
    writer = BlobFileWriter(Location.of(str(tmp_path / "data")), STORAGE_VERSION, SCHEMA, ["jpg"])
    rows = 1024 * 1024 + 1
    writer.write(pa.record_batch([pa.nulls(rows, pa.binary())], schema=SCHEMA))

    assert writer.close().rows == rows


def test_what_a_store_answered_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(
            "LanceError(IO): Generic S3 error: Error performing PUT http://here/lake/a - Server returned "
            "non-2xx status code: 403 Forbidden: <Error>\n<Code>SignatureDoesNotMatch</Code>\n"
            "<AWSAccessKeyId>marked-secret</AWSAccessKeyId></Error>"
        )

    monkeypatch.setattr(lance.fragment, "write_fragments", refuse)
    writer = BlobFileWriter(Location.of(str(tmp_path / "data")), STORAGE_VERSION, SCHEMA, ["jpg"])

    with pytest.raises(CommitError, match="403 Forbidden SignatureDoesNotMatch") as failure:
        writer.close()
    assert "marked-secret" not in str(failure.value)
    assert "\n" not in str(failure.value)
