from __future__ import annotations

import gzip
import os
import random
import tarfile
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from laketag.shards.streams import open_local
from laketag.shards.tar import Lost, Member, walk
from tars import END, header, padded, tar_bytes

THREE = [("a.jpg", b"A" * 700), ("b.jpg", b"B"), ("c.jpg", b"")]


def walked(path: Path, content: bytes | None = None) -> tuple[list[Member], list[Lost]]:
    if content is not None:
        path.write_bytes(content)
    with closing(open_local(str(path))) as stream:
        events = list(walk(stream, lambda member: True))
    return [e for e in events if isinstance(e, Member)], [e for e in events if isinstance(e, Lost)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.tar"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_names_of_any_length_and_script_are_read_in_every_format(path, kind, pack):
    names = ["a.jpg", "d" * 80 + "/" + "n" * 90 + ".jpg"]
    if kind != tarfile.USTAR_FORMAT:
        names += ["é" * 150 + "/ключ.jpg", "x" * 300 + ".jpg"]
    members = [(name, name.encode()) for name in names]

    found, lost = walked(path, pack(tar_bytes(members, kind=kind)))

    assert [(m.name, m.body) for m in found] == members
    assert lost == []


def test_offsets_are_those_of_the_first_header_and_of_the_body(path):
    content = tar_bytes([("a.jpg", b"1"), ("n" * 120 + ".jpg", b"2")], kind=tarfile.GNU_FORMAT)

    found, _ = walked(path, content)

    assert [(m.header, m.data) for m in found] == [(0, 512), (1024, 1024 + 3 * 512)]
    assert content[found[1].data : found[1].data + 1] == b"2"


def test_gzip_is_told_by_content_and_not_by_name(path):
    found, lost = walked(path, gzip.compress(tar_bytes(THREE)))

    assert [m.name for m in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert lost == []


def test_the_walk_goes_on_after_a_damaged_header_and_says_what_is_lost(path):
    content = bytearray(tar_bytes(THREE))
    content[1536 + 10] ^= 0xFF

    found, lost = walked(path, bytes(content))

    assert [m.name for m in found] == ["a.jpg", "c.jpg"]
    assert [event.offset for event in lost] == [1536]
    assert "1024 bytes" in lost[0].reason


def test_concatenated_tars_are_read_as_one(path):
    found, lost = walked(path, tar_bytes(THREE[:1]) + bytes(8192) + tar_bytes(THREE[1:]))

    assert [m.name for m in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert lost == []


def test_concatenated_gzip_tars_are_read_as_one(path):
    found, lost = walked(
        path, gzip.compress(tar_bytes(THREE[:1])) + gzip.compress(tar_bytes(THREE[1:])) + bytes(99)
    )

    assert [m.name for m in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert lost == []


@pytest.mark.parametrize(
    ("cut", "names", "reason"),
    [
        (2560, ["a.jpg", "b.jpg"], "no end-of-archive"),
        (1600, ["a.jpg"], "cut off inside a header"),
        (900, [], "cut off"),
        (1300, ["a.jpg"], "no end-of-archive"),
        (0, [], "empty"),
    ],
)
def test_a_cut_tar_keeps_what_is_whole(path, cut, names, reason):
    found, lost = walked(path, tar_bytes(THREE)[:cut])

    assert [m.name for m in found] == names
    assert len(lost) == 1
    assert reason in lost[0].reason


def test_missing_end_blocks_are_reported(path):
    found, lost = walked(path, tar_bytes(THREE, ended=False))

    assert len(found) == 3
    assert [event.offset for event in lost] == [3072]


@pytest.mark.parametrize("garbage", [b"hello", b"hello" * 1000])
def test_garbage_after_the_end_is_reported_and_hides_nothing(path, garbage):
    found, lost = walked(path, tar_bytes(THREE) + garbage)

    assert len(found) == 3
    assert "after the end of the archive" in lost[0].reason
    assert len(lost) == 1


def test_a_damaged_gzip_stream_gives_what_lies_before_the_damage(path):
    bodies = [(f"{i}.jpg", random.Random(i).randbytes(3000)) for i in range(100)]
    packed = bytearray(gzip.compress(tar_bytes(bodies)))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = bytes(200)

    found, lost = walked(path, bytes(packed))

    assert 40 <= len(found) <= 60
    assert [(m.name, m.body) for m in found[:40]] == bodies[:40]
    assert any("gzip" in event.reason for event in lost)


def test_a_wrong_gzip_checksum_loses_no_member_and_is_reported(path):
    packed = bytearray(gzip.compress(tar_bytes(THREE)))
    packed[-6] ^= 1

    found, lost = walked(path, bytes(packed))

    assert len(found) == 3
    assert len(lost) == 1


def test_a_cut_gzip_stream_is_reported(path):
    packed = gzip.compress(tar_bytes([(f"{i}.jpg", random.Random(i).randbytes(600)) for i in range(50)]))

    found, lost = walked(path, packed[: len(packed) // 2])

    assert 20 <= len(found) <= 30
    assert any("cut off" in event.reason for event in lost)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (b"1", "a hard link"),
        (b"2", "a symbolic link"),
        (b"5", "a directory"),
        (b"6", "a pipe"),
        (b"Z", "a member of type b'Z'"),
    ],
)
def test_what_is_no_file_is_named_as_what_it_is(path, kind, what):
    content = header(b"odd.jpg", 0, kind) + tar_bytes(THREE)

    found, lost = walked(path, content)

    assert [m.kind for m in found] == [what, "file", "file", "file"]
    assert lost == []


@pytest.mark.parametrize(
    "field",
    [
        b"\x80" + (10 << 30).to_bytes(11, "big"),
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"7" * 12,
        b"-0000000001\0",
        b"garbage.....",
    ],
)
def test_a_size_that_is_a_lie_costs_that_member_only(path, field):
    content = header(b"lie.jpg", size_field=field) + tar_bytes(THREE)

    found, lost = walked(path, content)

    assert [m.name for m in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(lost) == 1


def test_base_256_sizes_are_read(path):
    content = header(b"big.jpg", size_field=b"\x80" + (5).to_bytes(11, "big")) + padded(b"12345") + END

    found, lost = walked(path, content)

    assert [m.body for m in found] == [b"12345"]
    assert lost == []


def test_pax_sizes_and_paths_override_the_header(path):
    records = b"10 size=3\n" + b"18 path=long.jpeg\n"
    content = (
        header(b"x", len(records), b"x") + padded(records) + header(b"short.jpg", 0) + padded(b"abc") + END
    )

    found, lost = walked(path, content)

    assert [(m.name, m.body, m.header) for m in found] == [("long.jpeg", b"abc", 0)]
    assert lost == []


@pytest.mark.parametrize(
    "records", [b"99 path=x\n", b"path=x\n", b"11 size=-3\n", b"0 path=x\n", b"12 size=9x9\n"]
)
def test_a_damaged_pax_header_is_reported_and_its_member_kept(path, records):
    content = header(b"x", len(records), b"x") + padded(records) + header(b"s.jpg", 3) + padded(b"abc") + END

    found, lost = walked(path, content)

    assert [(m.name, m.body) for m in found] == [("s.jpg", b"abc")]
    assert "PAX" in lost[0].reason


@pytest.mark.slow
def test_a_gzip_bomb_is_walked_in_bounded_memory(path):
    big = 300 << 20
    with gzip.open(path, "wb", 1) as file:
        file.write(header(b"bomb.bin", big, b"Z"))
        for _ in range(big >> 20):
            file.write(bytes(1 << 20))
        file.write(tar_bytes(THREE))
    tracemalloc.start()

    found, lost = walked(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [m.name for m in found] == ["bomb.bin", "a.jpg", "b.jpg", "c.jpg"]
    assert lost == []
    assert peak < 20 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_cut_anywhere_never_gives_a_wrong_body_and_always_says_so(path, pack):
    bodies = dict(THREE)
    whole = pack(tar_bytes(THREE))

    for cut in range(0, len(whole), 7 if pack is bytes else 1):
        found, lost = walked(path, whole[:cut])
        assert all(m.body == bodies[m.name] for m in found)
        assert lost, cut


@pytest.mark.slow
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_tar_with_any_byte_flipped_is_walked_to_its_end(path, pack):
    whole = pack(tar_bytes(THREE, kind=tarfile.PAX_FORMAT))
    for at in range(0, len(whole), 3 if pack is bytes else 1):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)

        found, lost = walked(path, bytes(flipped))

        assert len(found) + len(lost) >= 1
        if pack is bytes and at < 2560:
            assert "c.jpg" in [m.name for m in found], at


def test_noise_is_walked_to_its_end(path):
    noise = random.Random(7)
    for _ in range(30):
        found, lost = walked(path, noise.randbytes(noise.randrange(1, 9000)))

        assert found == []
        assert len(lost) == 1


def test_a_file_system_that_gives_less_than_was_asked_for_cuts_nothing(path, monkeypatch):
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, at: read(file, min(size, 100), at))

    found, lost = walked(path, tar_bytes(THREE))

    assert [(member.name, member.body) for member in found] == THREE
    assert lost == []
