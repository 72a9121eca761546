"""What a file or the disk does to a call of the library is an error of ours, on one line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import laketag
from here import import_
from laketag.errors import DatasetError, StoreError
from tars import sample, write_tar

Break = Callable[[Path], object]
Call = Callable[[str, Path], object]


def gone(data: Path) -> None:
    for file in data.iterdir():
        file.unlink()


def damaged(data: Path) -> None:
    for file in data.iterdir():
        file.write_bytes(b"damaged" * 1000)


@pytest.mark.parametrize("harm", [gone, damaged])
@pytest.mark.parametrize(
    "call",
    [
        lambda uri, folder: laketag.show(uri),
        lambda uri, folder: laketag.report(uri=uri, file=str(folder / "report.html")),
        lambda uri, folder: laketag.diff(uri, 1, 2),
    ],
    ids=["show", "report", "diff"],
)
def test_files_that_cannot_be_read_are_one_line(tmp_path: Path, call: Call, harm: Break) -> None:
    uri = str(tmp_path / "dataset")
    rows = pa.table({"__key__": ["a"], "n": [1], "jpg": [b"x"]})
    lance.write_dataset(rows, uri)
    lance.write_dataset(rows, uri, mode="append")
    harm(Path(uri, "data"))

    with pytest.raises(StoreError) as raised:
        call(uri, tmp_path)

    said = str(raised.value)
    assert said.startswith(f"{uri} cannot be read or written (")
    assert re.search(r"; look at the path, its permissions and the space left, and run the same again$", said)
    assert not re.search(r"\n|LanceError|External|\.rs:", said)


def test_a_file_where_the_data_files_should_be_is_named(tmp_path: Path) -> None:
    data = tmp_path / "dataset" / "data"
    data.parent.mkdir()
    data.write_text("in the way")
    shard = write_tar(tmp_path / "a.tar", sample("a"))

    for call in (lambda: import_([str(shard)], str(data.parent)), lambda: laketag.show(str(data.parent))):
        with pytest.raises(DatasetError, match=f"^{data} is no folder, and .* move it away$"):
            call()

    assert data.read_text() == "in the way"
    assert list(data.parent.iterdir()) == [data]


def test_every_function_of_a_dataset_explains_its_errors() -> None:
    functions = {name: getattr(laketag, name) for name in laketag.__all__}
    of_a_dataset = {
        name: each
        for name, each in functions.items()
        if inspect.isfunction(each) and "uri" in inspect.signature(each).parameters
    }

    plain = [name for name, each in of_a_dataset.items() if inspect.unwrap(each) is each]

    assert len(of_a_dataset) > 15
    assert plain == ["torch_dataset"]  # which reads rows only when it is asked for them


@pytest.mark.parametrize(
    ("uri", "options", "said"),
    [
        ("tos://lake/photos.lance", {}, "TOS endpoint is required"),
        ("foo://lake/photos.lance", {}, "No object store provider found for scheme: 'foo'"),
        ("s3://lake/photos.lance", {"allow_http": "perhaps"}, 'failed to parse "perhaps" as boolean'),
    ],
)
def test_an_address_that_cannot_be_asked_is_not_said_to_hold_no_dataset(
    uri: str, options: dict[str, str], said: str
) -> None:
    with pytest.raises(StoreError, match=rf"{said}.*; look at the address and the options$"):
        laketag.show(uri, storage_options=options)


def test_a_dataset_whose_latest_version_is_damaged_is_not_said_to_be_absent(tmp_path: Path) -> None:
    lance.write_dataset(pa.table({"n": [1]}), tmp_path / "dataset")
    [manifest] = (tmp_path / "dataset" / "_versions").glob("*.manifest")
    manifest.write_bytes(manifest.read_bytes()[:40])

    with pytest.raises(StoreError, match=r"cannot be opened: .*; it is damaged$"):
        laketag.show(str(tmp_path / "dataset"))
