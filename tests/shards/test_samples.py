from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from laketag.shards.ledger import NAMED, Ledger
from laketag.shards.samples import CUT, JOINED, TWICE, Unordered, read_joined, read_samples, split_name
from laketag.shards.sources import find_shards
from tars import END, header, tar_bytes


@pytest.fixture
def read(tmp_path: Path):
    def read_shard(content: bytes, *, joined: bool = False):
        path = tmp_path / "x.tar"
        path.write_bytes(content)
        [shard] = find_shards([str(path)])
        ledger = Ledger(shard.url)
        samples = list((read_joined if joined else read_samples)(shard, ledger))
        return [(s.key, s.offset, s.members) for s in samples], ledger

    return read_shard


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("000.jpg", ("000", "jpg")),
        ("./000.jpg", ("./000", "jpg")),
        ("a/b.c/000.JPG", ("a/b.c/000", "jpg")),
        ("000.seg.PNG", ("000", "seg_png")),
        ("ключ.jpg", ("ключ", "jpg")),
        ("a b.jpg", ("a b", "jpg")),
        ("../up.jpg", ("../up", "jpg")),
        ("line\nbreak.jpg", ("line\nbreak", "jpg")),
    ],
)
def test_a_name_is_split_at_its_first_dot(name, place):
    assert split_name(name) == place


@pytest.mark.parametrize(
    "name",
    [
        ".hidden",
        "dir/.hidden",
        "dir/.hidden.jpg",
        "README",
        "dir/README",
        "a.",
        "__meta__.json",
        "__dir__/a.jpg",
    ],
)
def test_what_makes_no_sample_has_a_reason(name):
    assert isinstance(split_name(name), str)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_adjacent_members_are_one_sample_at_the_offset_of_the_first(read, joined, pack):
    content = tar_bytes([("b.jpg", b"1"), ("b.txt", b""), ("a.jpg", b"2"), ("c.x.y", b"3")])

    samples, ledger = read(pack(content), joined=joined)

    assert samples == [
        ("b", 0, {"jpg": b"1", "txt": b""}),
        ("a", 1536, {"jpg": b"2"}),
        ("c", 2560, {"x_y": b"3"}),
    ]
    assert (ledger.lost, ledger.skipped) == ({}, {})


SORTED_BY_KIND = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"3"), ("b.txt", b"4"), ("a.jpg", b"5")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_members_apart_are_joined_and_counted(read, pack):
    content = pack(tar_bytes(SORTED_BY_KIND))

    with pytest.raises(Unordered):
        read(content)
    samples, ledger = read(content, joined=True)

    assert [(key, members) for key, _, members in samples] == [
        ("a", {"jpg": b"1", "txt": b"3"}),
        ("b", {"jpg": b"2", "txt": b"4"}),
    ]
    assert ledger.skipped == {TWICE: ["a.jpg"], JOINED: ["a", "b"]}
    assert ledger.complete


def test_the_first_of_two_members_of_one_column_is_kept_and_the_other_named(read):
    samples, ledger = read(tar_bytes([("a.jpg", b"1"), ("a.JPG", b"2")]))

    assert [members for _, _, members in samples] == [{"jpg": b"1"}]
    assert ledger.skipped == {TWICE: ["a.JPG"]}


def test_what_is_no_sample_is_counted_by_reason_and_named_up_to_a_bound(read):
    odd = b"".join(header(b"d%d/" % i, kind=b"5") for i in range(NAMED + 5))
    content = odd + header(b"l.jpg", kind=b"1") + tar_bytes([("__meta__.json", b"{}"), ("a.jpg", b"")])

    samples, ledger = read(content)

    assert [key for key, _, _ in samples] == ["a"]
    rows = ledger.skipped_rows()
    assert len(rows) == NAMED + 1 + 1 + 1
    assert rows[NAMED]["reason"] == "a directory (and 5 more after this one)"
    assert {"l.jpg", "__meta__.json"} <= {row["member"] for row in rows}
    assert ledger.complete


def test_damage_makes_a_shard_incomplete(read):
    samples, ledger = read(header(b"a.jpg", 5000) + b"short")

    assert samples == []
    assert not ledger.complete
    assert ledger.lost_rows()[0]["offset"] == 0


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("end", [-600, -1324], ids=["in its body", "in its header"])
def test_a_sample_of_which_a_member_is_cut_off_is_left_out(read, end, joined):
    members = [("a.cls", b"1"), ("a.jpg", b"A"), ("b.cls", b"2"), ("b.jpg", b"B" * 1000)]
    content = tar_bytes(members, ended=False)

    samples, ledger = read(content[:end], joined=joined)

    assert [key for key, _, _ in samples] == ["a"]
    assert ledger.skipped == {CUT: ["b"]}
    assert not ledger.complete


@pytest.mark.parametrize("joined", [False, True])
def test_a_member_that_is_cut_off_and_whole_beside_it_costs_no_sample(read, joined):
    cut = header(b"a.jpg", 1 << 30)
    whole = tar_bytes([("a.jpg", b"A"), ("a.cls", b"1")], ended=False)

    for content in (cut + whole + END, whole + cut + END):
        samples, ledger = read(content, joined=joined)

        assert [members for _, _, members in samples] == [{"jpg": b"A", "cls": b"1"}]
        assert ledger.skipped == {}
        assert not ledger.complete


PAIRS = [(f"{key}.{extension}", b"1") for key in "abc" for extension in ("jpg", "txt")]
"""Of which each takes 1,024 bytes of a tar."""


def without_header(number: int) -> bytes:
    whole = tar_bytes(PAIRS)
    return whole[: number * 1024] + b"\xff" * 512 + whole[number * 1024 + 512 :]


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("content", "keys", "cut"),
    [
        (tar_bytes(PAIRS[:5], ended=False), ["a", "b"], ["c"]),
        (without_header(3), ["a", "c"], ["b"]),
        (without_header(4), ["a", "b"], ["c"]),
        (tar_bytes(PAIRS, ended=False), ["a", "b", "c"], []),
        (tar_bytes(PAIRS[:5]), ["a", "b", "c"], []),
    ],
    ids=["cut at a border", "damage after it", "damage before it", "whole but for the end", "whole"],
)
def test_a_sample_beside_what_is_lost_is_left_out_where_it_has_fewer_members_than_others(
    read, content, keys, cut, joined
):
    samples, ledger = read(content, joined=joined)

    assert [key for key, _, _ in samples] == keys
    assert ledger.skipped == ({CUT: cut} if cut else {})
    assert ledger.complete == (content == tar_bytes(PAIRS[:5]))


def test_a_damaged_gzip_shard_of_scattered_members_keeps_what_is_whole(read):
    content = gzip.compress(tar_bytes(SORTED_BY_KIND) + END)

    samples, ledger = read(content[:-12], joined=True)

    assert [key for key, _, _ in samples] == ["a", "b"]
    assert not ledger.complete
