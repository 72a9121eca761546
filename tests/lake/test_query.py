"""A query reads and does nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import imports
import laketag
from laketag.errors import BadSQL, ColumnError, DatasetError, LinkBroken, WrongUsage
from laketag.lake import sql
from laketag.lake.browsing import View
from laketag.lake.dataset import open_dataset
from laketag.lake.location import Location
from laketag.lake.reading import scan
from tars import write_tar


@pytest.fixture
def uri(tmp_path: Path) -> str:
    import lance

    return str(lance.write_dataset(pa.table({"width": [1, 2]}), tmp_path / "photos.lance").uri)


def run(uri: str, text: str) -> list[dict[str, int]]:
    batches = laketag.query(uri, selection=laketag.Selection(sql=text))
    return [row for batch in batches for row in batch.to_pylist()]


def test_what_is_similar_may_have_the_same_key(tmp_path: Path) -> None:
    import lance

    vectors = pa.array([[float(n), 0.0] for n in range(5)], pa.list_(pa.float32(), 2))
    uri = str(tmp_path / "photos.lance")
    lance.write_dataset(pa.table({"__key__": ["0", "1", None, "0", "1"], "n": range(5), "v": vectors}), uri)

    selection = laketag.Selection(similar_to="0", columns=("n",))
    found = [row["n"] for batch in laketag.query(uri, selection=selection) for row in batch.to_pylist()]

    assert found == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text",
    [
        "copy dataset to 'FOLDER/out.csv'",
        "(copy dataset to 'FOLDER/out.csv')",
        "-- select\ncopy dataset to 'FOLDER/out.csv'",
        "/* /* */ select */ copy dataset to 'FOLDER/out.csv'",
        "--\rselect\ncopy dataset to 'FOLDER/out.csv'",
        "explain analyze copy dataset to 'FOLDER/out.csv'",
        "Explain Analyze /* select */ copy dataset to 'FOLDER/out.csv'",
        "; copy dataset to 'FOLDER/out.csv'",
        "select 1; copy dataset to 'FOLDER/out.csv'",
        "with t as (select 1) insert into dataset select 5",
        "create external table t stored as csv location 'FOLDER/in.csv'",
        "create table t as select * from dataset",
        "insert into dataset values (3)",
        "drop table dataset",
        "set datafusion.execution.batch_size = 1",
        "selected",
        "",
    ],
)
def test_what_is_no_query_is_refused_on_one_line_and_writes_nothing(
    uri: str, tmp_path: Path, text: str
) -> None:
    before = sorted(tmp_path.iterdir())

    with pytest.raises(BadSQL) as raised:
        run(uri, text.replace("FOLDER", str(tmp_path)))

    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "text",
    [
        "select width from dataset",
        "  -- widths;\r\n/* all of them */ SELECT width FROM dataset; ",
        "(select width from dataset)",
        "with t as (select width from dataset) select * from t",
        "values (1), (2)",
        "select(width) from dataset",
    ],
)
def test_a_query_may_begin_in_any_way_that_reads(uri: str, text: str) -> None:
    assert [list(row.values()) for row in run(uri, text)] == [[1], [2]]


def test_a_query_is_explained(uri: str) -> None:
    assert "width" in str(run(uri, "explain analyze select width from dataset"))


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("wdth > 1", "there is no column wdth; did you mean width?"),
        ("width > 1 and (wdth is null)", "there is no column wdth; did you mean width?"),
        ("width = wide_ones", "there is no column wide_ones (a text would be 'wide_ones'); columns: width"),
    ],
)
def test_a_filter_that_names_no_column_says_which_and_what_there_is(uri: str, where: str, said: str) -> None:
    with pytest.raises(BadSQL) as raised:
        list(laketag.query(uri, selection=laketag.Selection(where=where)))

    assert str(raised.value) == f"the filter {where!r} cannot be run: {said}"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("select nope(width) from dataset", "Invalid function 'nope'."),
        ("select width from dataset having", "Expected: an expression, found the end"),
        (
            "select * from dataset where width > 'a'",
            "Cast error: Cannot cast string 'a' to value of Int64 type",
        ),
        ("select * from photos", "there is no table photos; the rows are those of dataset"),
    ],
)
def test_a_query_that_cannot_be_run_says_why_and_not_which_part_of_lance_found_out(
    uri: str, query: str, said: str
) -> None:
    with pytest.raises(BadSQL) as raised:
        run(uri, query)

    assert str(raised.value).startswith(f"the query {query!r} cannot be run: {said}")


@pytest.mark.parametrize("order", ["my score desc", '"my score" desc', "my score  DESC", "-my score"])
def test_rows_come_in_the_order_of_a_column_whose_name_has_blanks(tmp_path: Path, order: str) -> None:
    import lance

    table = pa.table({"my score": [1, None, 3, 2], "-my score": [3, None, 1, 2]})
    uri = str(lance.write_dataset(table, tmp_path / "photos.lance").uri)

    batches = laketag.query(uri, selection=laketag.Selection(order_by=order))

    assert [row["my score"] for batch in batches for row in batch.to_pylist()] == [3, 2, 1, None]


@pytest.mark.parametrize("limit", [None, 2, 0])
def test_rows_come_in_the_order_of_a_column_that_is_not_shown(tmp_path: Path, limit: int | None) -> None:
    import lance

    table = pa.table({"name": ["low", "high", "middle"], "score": [1, 3, 2]})
    uri = str(lance.write_dataset(table, tmp_path / "photos.lance").uri)
    selection = laketag.Selection(columns=("name",), order_by="score desc", limit=limit)

    found = [row for batch in laketag.query(uri, selection=selection) for row in batch.to_pylist()]

    assert found == [{"name": "high"}, {"name": "middle"}, {"name": "low"}][:limit]


def large_image(number: int) -> bytes:
    return np.random.default_rng(number).bytes(1 << 20)  # or else Lance would pack it


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> str:
    import lance

    table = pa.table({"jpg": [large_image(n) for n in range(40)], "n": [n * 7 % 40 for n in range(40)]})
    folder = tmp_path_factory.mktemp("large")
    return str(lance.write_dataset(table, folder / "photos.lance", max_rows_per_file=15).uri)


@pytest.mark.parametrize(
    ("selection", "order"),
    [
        (laketag.Selection(columns=("jpg", "n")), [n * 7 % 40 for n in range(40)]),
        (laketag.Selection(columns=("jpg", "n"), order_by="n desc"), [*range(39, -1, -1)]),
        (laketag.Selection("n > 30", ("jpg", "n"), order_by="n", limit=20), [*range(31, 40)]),
        (laketag.Selection(sql="select jpg, n from dataset order by n"), [*range(40)]),
    ],
    ids=["as they lie", "in order", "filtered", "by sql"],
)
def test_large_images_are_read_a_few_at_a_time(
    large: str, selection: laketag.Selection, order: list[int]
) -> None:
    batches = list(laketag.query(large, selection=selection))

    assert [n for batch in batches for n in batch["n"].to_pylist()] == order
    assert all(batch["jpg"][0].as_py() == large_image(batch["n"][0].as_py() * 23 % 40) for batch in batches)
    assert max(len(batch) for batch in batches) <= 8


def test_a_filter_on_large_images_reads_a_few_at_a_time(large: str) -> None:
    where = "jpg is not null"
    dataset = open_dataset(Location.of(large))

    found = [
        list(laketag.query(large, selection=laketag.Selection(where, ("n",)))),
        list(laketag.query(large, selection=laketag.Selection(sql=f"select n from dataset where {where}"))),
        list(scan(dataset, [], ["n"], where=where)),
    ]

    for batches in found:
        assert sorted(n for batch in batches for n in batch["n"].to_pylist()) == [*range(40)]
        assert max(len(batch) for batch in batches) <= 8


BLOBS = [laketag.ImportSettings(image_encoding="blob"), laketag.ImportSettings(link=True)]


@pytest.mark.parametrize("settings", BLOBS, ids=["blob", "link"])
def test_blobs_are_bytes_by_sql_and_a_filter_on_them_reads_none(
    tmp_path: Path, settings: laketag.ImportSettings
) -> None:
    uri = str(tmp_path / "photos.lance")
    shard = write_tar(tmp_path / "a.tar", [("a.jpg", large_image(0)), ("a.txt", b"")], [("b.txt", b"")])
    imports.run(uri, shard, settings=settings)
    dataset = open_dataset(Location.of(uri))
    dataset.io_stats_incremental()

    [found] = scan(dataset, [], ["__key__"], where="jpg is null")

    assert found["__key__"].to_pylist() == ["b"]
    assert dataset.io_stats_incremental().read_bytes < 1 << 19
    assert run(uri, "select __key__ as key from dataset where jpg is not null") == [{"key": "a"}]
    assert run(uri, "select jpg from dataset order by __key__") == [{"jpg": large_image(0)}, {"jpg": None}]
    if settings.link:
        shard.write_bytes(b"")
        with pytest.raises(LinkBroken):
            run(uri, "select jpg from dataset")


@pytest.mark.parametrize("version", ["2.0", "2.1"])
def test_a_filter_tells_rows_without_a_blob_of_the_first_kind(tmp_path: Path, version: str) -> None:
    import lance

    blob = pa.field("jpg", pa.large_binary(), metadata={"lance-encoding:blob": "true"})
    table = pa.table([[b"a", None, b""]], schema=pa.schema([blob])).append_column("n", pa.array([0, 1, 2]))
    lance.write_dataset(table, str(tmp_path), data_storage_version=version)

    selection = laketag.Selection("jpg is null", ("n",))
    found = [row for batch in laketag.query(str(tmp_path), selection=selection) for row in batch.to_pylist()]

    assert found == [{"n": 1}]


@pytest.mark.parametrize("order", ["width sideways", "wide", "desc", ""])
def test_an_order_that_is_none_is_said(uri: str, order: str) -> None:
    with pytest.raises((ColumnError, WrongUsage), match=r"there is no column|not a column with asc or desc"):
        list(laketag.query(uri, selection=laketag.Selection(order_by=order)))


@pytest.mark.parametrize("text", ["{} > 1", "select * from dataset where {} > 1"])
def test_a_quote_in_a_name_is_doubled_as_sql_wants_it(tmp_path: Path, text: str) -> None:
    import lance

    uri = str(lance.write_dataset(pa.table({'5" wide': [1, 2]}), tmp_path / "photos.lance").uri)
    asked = text.format(sql.name('5" wide'))
    is_whole = asked.startswith("select")
    selection = laketag.Selection(sql=asked) if is_whole else laketag.Selection(where=asked)

    batches = laketag.query(uri, selection=selection)

    assert [row for batch in batches for row in batch.to_pylist()] == [{'5" wide': 2}]


ASKED: dict[str, Callable[[str], object]] = {
    "filter": lambda uri: list(laketag.query(uri, selection=laketag.Selection(where="width > 1"))),
    "query": lambda uri: run(uri, "select width from dataset"),
    "gallery": lambda uri: View.of(Location.of(uri)).choose("width > 1"),
    "add-column": lambda uri: laketag.add_column(uri, "wider", "width + 1"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_file_that_is_gone_is_no_fault_of_what_was_asked(uri: str, ask: Callable[[str], object]) -> None:
    for file in Path(uri, "data").iterdir():
        file.unlink()

    with pytest.raises(DatasetError, match=r"the rows of .*cannot be read: Not found: ") as caught:
        ask(uri)

    assert caught.type is DatasetError
