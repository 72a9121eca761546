from __future__ import annotations

import json
import random
from functools import reduce
from itertools import permutations

import pyarrow as pa
import pytest

from laketag.shards.json_types import MAX_KEYS, from_arrow, settle, to_arrow, type_of, unite
from laketag.shards.json_values import Unreadable, column, parse

BIG = 2**53 + 1


def columnar(*texts: str) -> pa.Array:
    values = [json.loads(text) for text in texts]
    kind = settle(reduce(unite, (type_of(value) for value in values)))
    found = column(values, kind)
    assert found.type == to_arrow(kind)
    return found


@pytest.mark.parametrize(
    ("texts", "arrow", "values"),
    [
        (["true", "null", "false"], pa.bool_(), [True, None, False]),
        (["1", "null", "-9223372036854775808"], pa.int64(), [1, None, -(2**63)]),
        (["1", "1.5"], pa.float64(), [1.0, 1.5]),
        ([str(BIG), "1.5"], pa.string(), [str(BIG), "1.5"]),
        ([str(BIG), "1"], pa.int64(), [BIG, 1]),
        (["1", '"1"', "1.5", "null"], pa.string(), ["1", "1", "1.5", None]),
        (["true", "1"], pa.string(), ["true", "1"]),
        (["null", "null"], pa.string(), [None, None]),
        (["9223372036854775808", "1"], pa.string(), ["9223372036854775808", "1"]),
        (["NaN", "1.5"], pa.string(), ["NaN", "1.5"]),
        (["1e999"], pa.string(), ["Infinity"]),
        (['"{\\"Make\\": 1}"', "null"], pa.string(), ['{"Make": 1}', None]),
        (["[1, null]", "[2.5]", "[]"], pa.list_(pa.float64()), [[1.0, None], [2.5], []]),
        (["[]"], pa.list_(pa.string()), [[]]),
        (["[1]", "2"], pa.string(), ["[1]", "2"]),
        (['["a", {"b": 1}]'], pa.list_(pa.string()), [["a", '{"b": 1}']]),
        (
            ['{"a": 1}', '{"b": "x"}', "null", '{"a": 2.5}'],
            pa.struct([("a", pa.float64()), ("b", pa.string())]),
            [{"a": 1.0, "b": None}, {"a": None, "b": "x"}, None, {"a": 2.5, "b": None}],
        ),
        (["{}", "null"], pa.string(), ["{}", None]),
        (['{"a": {}}'], pa.struct([("a", pa.string())]), [{"a": "{}"}]),
        (['{"a.b": 1}'], pa.string(), ['{"a.b": 1}']),
        (['{"a": 1, "A": 2}'], pa.string(), ['{"a": 1, "A": 2}']),
        (['{"": 1}'], pa.string(), ['{"": 1}']),
        (['{"a": 1}', "[1]"], pa.string(), ['{"a": 1}', "[1]"]),
        (['"\\ud800"', '"é"'], pa.string(), ['"\\ud800"', "é"]),
        (['["\\ud800"]', "1"], pa.string(), ['["\\ud800"]', "1"]),
        (['{"a": "\\ud800"}'], pa.struct([("a", pa.string())]), [{"a": '"\\ud800"'}]),
    ],
)
def test_values_become_the_narrowest_column_that_loses_nothing(texts, arrow, values):
    found = columnar(*texts)

    assert found.type == arrow
    assert found.to_pylist() == values


def test_the_union_does_not_depend_on_order_or_grouping():
    chance = random.Random(5)

    def value(depth: int = 0):
        kinds = [None, True, 3, BIG, 2**70, 0.5, float("nan"), "s"]
        if depth < 3 and chance.random() < 0.5:
            if chance.random() < 0.5:
                return [value(depth + 1) for _ in range(chance.randrange(3))]
            return {key: value(depth + 1) for key in chance.sample("abc", chance.randrange(4))}
        return chance.choice(kinds)

    for _ in range(500):
        types = [type_of(value()) for _ in range(4)]
        left = reduce(unite, types)
        assert all(reduce(unite, order) == left for order in permutations(types))
        assert unite(types[0], unite(types[1], unite(types[2], types[3]))) == left
        assert unite(left, left) == left


def test_types_survive_staging_and_arrow():
    kind = settle(type_of({"a": [1.5], "b": {"c": "x", "d": True}, "e": BIG}))

    assert json.loads(json.dumps(kind)) == kind
    assert unite(from_arrow(to_arrow(kind)), kind) == from_arrow(to_arrow(kind))


def test_deep_values_become_text():
    value = 1
    for _ in range(60):
        value = [value]

    kind = to_arrow(type_of(value))

    assert str(kind).count("list") < 40
    assert column([value], type_of(value)).type == kind


def test_objects_that_are_maps_become_text():
    assert type_of({str(i): i for i in range(MAX_KEYS + 1)}) == "text"
    halves = [{"struct": {f"{h}{i}": "int" for i in range(MAX_KEYS // 2 + 1)}} for h in "ab"]
    assert unite(*halves) == "text"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"[1]", "a list"),
        (b"1", "a number"),
        (b"null", "null"),
        (b'{"a": ', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\xfa", "not"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_json_that_gives_no_columns_has_a_reason(raw, reason):
    with pytest.raises(Unreadable, match=reason):
        parse(raw)


def test_the_last_of_equal_keys_counts_and_a_byte_order_mark_is_ignored():
    assert parse(b'\xef\xbb\xbf{"a": 1, "a": 2}') == {"a": 2}
