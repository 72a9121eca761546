from __future__ import annotations

from itertools import zip_longest

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laketag.shards.selected import Cutter

FRAGMENTS = st.lists(st.lists(st.integers(0, 100), max_size=20), max_size=8)


@example(fragments=[[2, 0]], rows=2, size=1)
@settings(deadline=None)  # other tests keep the machine busy
@given(fragments=FRAGMENTS, rows=st.integers(1, 15), size=st.none() | st.integers(1, 300))
def test_shards_hold_every_row_once_in_order_and_are_as_full_as_they_may_be(fragments, rows, size):
    cutter = Cutter(rows, size)
    for number, sizes in enumerate(fragments):
        cutter.add(number, np.array(sizes, np.uint64))

    shards = [
        [(run.fragment, at) for run in shard for at in range(run.first, run.first + run.rows)]
        for shard in cutter.shards
    ]
    weights = [[fragments[fragment][at] for fragment, at in shard] for shard in shards]
    assert [row for shard in shards for row in shard] == [
        (number, at) for number, sizes in enumerate(fragments) for at in range(len(sizes))
    ]
    for shard, following in zip_longest(weights, weights[1:]):
        assert 1 <= len(shard) <= rows
        assert size is None or sum(shard) <= size or len(shard) == 1
        if following is not None:
            is_full = len(shard) == rows or (size is not None and sum(shard) + following[0] > size)
            assert is_full
