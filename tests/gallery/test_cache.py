from __future__ import annotations

from laketag.gallery.cache import Cache


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text

    cache: Cache[str, str] = Cache(10, len)
    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        cache.get(text, lambda text=text: make(text))

    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]


def test_a_value_larger_than_the_room_is_given_and_is_the_only_one() -> None:
    cache: Cache[str, bytes] = Cache(10, len)
    cache.get("small", lambda: b"1234")
    first = cache.get("large", lambda: bytes(100))
    again = cache.get("small", lambda: b"made again")

    assert len(first) == 100
    assert again == b"made again"
