from __future__ import annotations

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laketag.shards.members import Keys, merged, plain
from laketag.shards.samples import split_name

LABELS = {"SCORE": 1.5, "TAG": "schön", "ERROR": None}
KEY = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.dictionaries(KEY, st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.none())


@pytest.mark.slow
@given(values=VALUES, indent=st.sampled_from([None, 2]), space=st.sampled_from(["", " ", "\n\t"]))
def test_labels_are_added_to_any_object(values, indent, space):
    raw = space + json.dumps(values, indent=indent, ensure_ascii=False) + space

    text = merged(raw, LABELS)

    assert text is not None
    assert json.loads(text) == {**values, **LABELS}


def test_what_was_there_stays_letter_for_letter():
    raw = '{"pi": 3.14159265358979323846, "big": 123456789012345678901234567890, "e": 1E400, "a": 1, "a": 2}'

    text = merged(raw, LABELS)

    assert text is not None
    assert text.startswith(raw[:-1])


def test_without_labels_the_text_is_the_one_that_came():
    assert merged(' {"a" : 1} \n', {}) == ' {"a" : 1} \n'
    assert merged(None, {}) is None


def test_a_label_takes_the_place_of_an_older_value():
    text = merged('{"SCORE": 9, "a": 1}', {"SCORE": 2.5})

    assert text is not None
    assert json.loads(text, object_pairs_hook=list) == [("SCORE", 2.5), ("a", 1)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_labels_are_added_to_json_of_another_encoding(encoding):
    raw = '{"a": 1}'.encode(encoding).decode()

    assert json.loads(merged(raw, {"L": 2}) or "") == {"a": 1, "L": 2}


def test_json_that_is_no_object_is_kept_as_a_text():
    assert json.loads(merged("[1, 2]", {"S": 1}) or "") == {"json": "[1, 2]", "S": 1}
    assert json.loads(merged("not json", {"S": 1}) or "") == {"json": "not json", "S": 1}


def test_labels_alone_are_an_object():
    assert json.loads(merged(None, LABELS) or "") == LABELS
    assert json.loads(merged("{}", LABELS) or "") == LABELS


def test_values_of_arrow_become_what_json_knows():
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)

    assert plain({"a": [1.5, float("nan"), b"\0"], "t": day}) == {
        "a": [1.5, None, "AA=="],
        "t": "2026-01-02T03:04:05",
    }


@pytest.mark.slow
@given(st.lists(st.text(max_size=12), max_size=20))
def test_every_key_names_one_sample_that_an_import_finds_again(keys):
    names = Keys()

    given_out = [names.of(key) for key in keys]

    assert len(set(given_out)) == len(keys)
    for key in given_out:
        assert split_name(f"{key}.jpg") == (key, "jpg")
        assert not {"..", ".", ""} & set(key.split("/"))
    assert names.renamed == sum(one != other for one, other in zip(keys, given_out, strict=True))
