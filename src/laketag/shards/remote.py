"""Shards that lie elsewhere: an address on a store or on the web becomes the shards that it names."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping

from laketag.errors import ShardError, ShardNotFound
from laketag.lake import objects
from laketag.lake.location import Location
from laketag.lake.objects import Object
from laketag.shards import web
from laketag.shards.shard import Shard

SCHEMES = (*objects.SCHEMES, *web.SCHEMES)
"""Addresses that are read."""
ENDINGS = (".tar", ".tar.gz", ".tgz")
"""What in a folder is a shard."""
_WILD = re.compile(r"\*\*/|\*\*|\*|\?|\[[^]]+\]")
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def find(address: str, options: Mapping[str, str], given_up: threading.Event | None = None) -> list[Shard]:
    """Find the shards that an address names: an object, what a folder holds, or what a glob matches.

    A place that does not answer is asked again for minutes, until it is given up.

    Raises:
        ShardNotFound: there is none.
        ShardError: the store does not let us, or does not answer.
    """
    if _is_on_the_web(address):
        return [web.find(address, given_up)]
    place = Location.of(address, options)
    if _WILD.search(place.uri):
        found = _matching(place, given_up)
    elif one := objects.find_object(place, given_up):
        found = [one]
    else:
        found = [each for each in objects.list_objects(place, given_up) if _is_shard_in(place.uri, each)]
    if not found:
        raise ShardNotFound(f"there is no shard {address!r}; check the name, or leave it out")
    return [_shard(each, options) for each in sorted(found, key=lambda each: each.uri)]


def look_again(shard: Shard) -> Shard:
    """Find a shard as it is now.

    Raises:
        ShardError: it is gone.
    """
    if _is_on_the_web(shard.path):
        return web.find(shard.path)
    # By its name, which may hold what would be a glob.
    now = objects.find_object(shard.place)
    if now is None:
        raise ShardError(f"shard {shard.url} is gone; run the same command again for what is there")
    return _shard(now, shard.options)


def read_range(shard: Shard, start: int, length: int) -> bytes:
    """Read bytes of a shard, in one attempt.

    Raises:
        ShardError: the shard changed, or it may not be read.
        OSError: its place failed; it may not the next time.
    """
    if _is_on_the_web(shard.path):
        found = web.read_range(shard, start, length)
    else:
        found = objects.read_range(shard.place, start, length, shard.etag)
    if len(found) != length:
        raise ShardError(f"shard {shard.url} gave {len(found)} bytes where {length} were asked for")
    return found


def _is_on_the_web(address: str) -> bool:
    return address.partition("://")[0].lower() in web.SCHEMES


def _matching(place: Location, given_up: threading.Event | None) -> list[Object]:
    fixed = _WILD.split(place.uri)[0].rpartition("/")[0]
    pattern, at = "", 0
    for wild in _WILD.finditer(place.uri):
        pattern += re.escape(place.uri[at : wild.start()]) + _MEANING.get(
            wild[0], wild[0].replace("[!", "[^")
        )
        at = wild.end()
    whole = re.compile(pattern + re.escape(place.uri[at:]))
    found = objects.list_objects(Location(fixed, place.storage_options), given_up)
    return [each for each in found if whole.fullmatch(each.uri)]


def _is_shard_in(folder: str, found: Object) -> bool:
    name = found.uri.removeprefix(f"{folder}/")
    return "/" not in name and name.lower().endswith(ENDINGS) and not name.startswith(".")


def _shard(found: Object, options: Mapping[str, str]) -> Shard:
    return Shard(found.uri, found.uri, found.size, found.modified, found.etag, options)
