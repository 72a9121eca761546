from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laketag.errors import TrainingError
from laketag.training.epochs import Order, Share, Worker

ROWS = st.integers(0, 200)


@pytest.mark.slow
@given(
    rows=ROWS,
    ranks=st.integers(1, 9),
    workers=st.integers(1, 5),
    block=st.integers(1, 7),
    shuffle=st.booleans(),
)
def test_ranks_and_workers_together_have_every_row_once(rows, ranks, workers, block, shuffle):
    order = Order(shuffle, seed=3)

    found = [
        place
        for rank in range(ranks)
        for number in range(workers)
        for place in Worker(number, workers).of(order.places(rows, 5, Share(rank, ranks)), block).tolist()
    ]

    assert sorted(found) == list(range(rows))


@given(rows=ROWS, ranks=st.integers(1, 9))
def test_even_shares_are_equal_and_leave_out_fewer_rows_than_ranks(rows, ranks):
    shares = [Order(True).places(rows, 0, Share(rank, ranks, even=True)) for rank in range(ranks)]

    assert len({len(share) for share in shares}) == 1
    assert rows - sum(map(len, shares)) < ranks
    assert len(np.unique(np.concatenate(shares))) == sum(map(len, shares))


def test_an_order_follows_from_seed_and_epoch():
    places = [
        Order(True, seed).places(50, epoch, Share()).tolist() for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]

    assert len({tuple(each) for each in places}) == 3
    assert Order(True, 0).places(50, 1, Share()).tolist() == places[1]


@given(rows=ROWS, workers=st.integers(1, 5), block=st.integers(1, 7))
def test_blocks_of_workers_asked_in_turn_are_the_order_itself(rows, workers, block):
    places = np.arange(rows)
    parts = [Worker(number, workers).of(places, block).tolist() for number in range(workers)]

    found, turn = [], 0
    while any(parts):
        found += parts[turn % workers][:block]
        parts[turn % workers] = parts[turn % workers][block:]
        turn += 1

    assert found == list(range(rows))


def test_a_rank_that_does_not_exist_is_refused():
    with pytest.raises(TrainingError, match="rank 2 of 2"):
        Share(2, 2)
