from __future__ import annotations

import gc
from contextlib import closing

import pyarrow as pa
import pytest

from laketag.shards.bodies import LARGE, Slabs, binary
from laketag.shards.streams import PlainStream

MEBI = 1 << 20


def filled(slabs: Slabs, size: int, byte: int) -> memoryview:
    view = slabs.take(size)
    view[:] = bytes([byte]) * size
    return view


def places(column: pa.ChunkedArray) -> set[int]:
    return {chunk.buffers()[2].address for chunk in column.chunks}


def test_bodies_that_lie_one_behind_the_other_become_a_column_without_a_copy():
    slabs = Slabs()
    bodies = [filled(slabs, 3 * MEBI, number) for number in range(4)]

    column = binary(bodies)

    # Two of three megabytes fit into a slab.
    assert column.num_chunks == 2
    assert places(column) == {pa.py_buffer(bodies[at]).address for at in (0, 2)}
    assert column.to_pylist() == [bytes(body) for body in bodies]


@pytest.mark.parametrize("gap", [None, b"", b"small"])
def test_a_column_with_others_between_them_holds_the_same(gap):
    slabs = Slabs()
    bodies = [filled(slabs, LARGE, 1), gap, filled(slabs, LARGE, 2)]

    assert binary(bodies).to_pylist() == [body and bytes(body) for body in bodies]


def test_bodies_that_lie_apart_become_one_array():
    slabs = Slabs()
    bodies = [filled(slabs, LARGE, number) for number in range(60)]

    column = binary(bodies[::2])

    assert column.num_chunks == 1
    assert column.to_pylist() == [bytes(body) for body in bodies[::2]]


def test_no_values_are_a_column_too():
    assert binary([]).to_pylist() == []


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["the view", "a column", "a slice of it"])
def test_memory_that_anyone_holds_is_not_taken_again(keep):
    slabs = Slabs()
    view = filled(slabs, LARGE, 7)
    held = view if keep == "the view" else binary([view])
    if keep == "a slice of it":
        held = held.chunk(0).slice(0, 1)
    del view
    for number in range(40):
        filled(slabs, MEBI, number % 5)
    gc.collect()

    value = bytes(held) if keep == "the view" else held[0].as_py()
    assert value == b"\7" * LARGE


def test_memory_that_no_one_holds_is_taken_again():
    slabs = Slabs()

    seen = {pa.py_buffer(slabs.take(5 * MEBI)).address for _ in range(20)}

    assert len(seen) <= 2


def test_bodies_that_are_kept_for_long_hold_no_more_than_themselves_in_the_end():
    slabs = Slabs()
    kept = []
    for _ in range(50):
        kept.append(filled(slabs, LARGE, len(kept)))
        filled(slabs, 8 * MEBI, 255)

    held = sum({id(view.obj): len(view.obj) for view in kept}.values())
    assert [view[0] for view in kept] == list(range(50))
    assert held < 100 * MEBI


def test_a_file_that_is_cut_while_it_is_read_gives_what_is_left(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 4 * LARGE)
    with closing(PlainStream(str(path))) as stream:
        assert stream.read(10) == b"x" * 10
        path.write_bytes(b"x" * 2 * LARGE)
        assert len(stream.body(3 * LARGE)) < 3 * LARGE
        assert stream.read(10) == b""
