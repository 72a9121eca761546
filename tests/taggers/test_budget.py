from __future__ import annotations

import threading

import numpy as np
from PIL import Image

from laketag.taggers.budget import Budget, size_of


def test_what_is_larger_than_the_budget_goes_alone() -> None:
    budget = Budget(100)

    assert budget.try_take(1000)
    assert not budget.try_take(1)
    budget.give(1000)
    assert budget.try_take(1)


def test_who_waits_goes_on_when_there_is_room_and_when_it_closes() -> None:
    budget = Budget(100)
    budget.take(100)
    answers: list[bool] = []
    first = threading.Thread(target=lambda: answers.append(budget.take(60)))
    first.start()
    budget.give(100)
    first.join()
    second = threading.Thread(target=lambda: answers.append(budget.take(60)))
    second.start()
    budget.close()
    second.join()

    assert answers == [True, False]


def test_the_expectation_follows_what_rows_take() -> None:
    budget = Budget(1 << 20)
    budget.take(budget.expected)
    budget.settle(budget.expected, kept=10_000, largest=10_000)
    assert budget.expected == 10_000
    budget.settle(0, kept=0, largest=0)

    assert budget.expected == 9_000


def test_the_size_of_a_value_is_that_of_its_memory() -> None:
    assert size_of(b"1234") == 4
    assert size_of(np.zeros((3, 4), np.float32)) == 48
    assert size_of(Image.new("RGB", (10, 20))) == 800
    assert size_of((np.zeros(4, np.int8), {"a": b"12"}, None)) == 6
