"""Which shards are meant: files, folders, globs, brace ranges, addresses and lists become a list of tars."""

from __future__ import annotations

import glob
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from urllib.parse import unquote

from laketag.errors import ShardNotFound, ShardRefused
from laketag.lake.location import is_utf8
from laketag.lake.patience import at_once
from laketag.shards import remote, web
from laketag.shards.remote import ENDINGS
from laketag.shards.shard import Shard

_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MOST = 10_000_000
_AT_ONCE = 16  # so many addresses are looked up


def find_shards(arguments: Sequence[str], options: Mapping[str, str] | None = None) -> list[Shard]:
    """Find the shards that arguments name, in order, each once.

    An argument is a tar, a folder of tars, a glob, a brace range (`{000..127}`, `{a,b}`), an address on a
    store (`s3://...`, with globs and ranges, too) or on the web, or `@FILE` with one argument a line. A text
    alone is one argument. The options are those of the shards' store.

    Raises:
        ShardNotFound: an argument names no shard.
        ShardRefused: an argument is of a kind that is not read.
        ShardError: a store does not let us, or does not answer.
    """
    found: dict[str, Shard] = {}
    for shard in _looked_up(names_of(arguments), options or {}):
        if found.setdefault(shard.url, shard).path != shard.path:
            raise ShardRefused(
                f"two shards are {shard.url} but for a query, which may be a signature and is not "
                "kept; import one of them, or download them"
            )
    if not found:
        raise ShardNotFound("no shard was named; give tars, folders, globs or @LIST")
    return list(found.values())


def names_of(arguments: Sequence[str]) -> list[str]:
    """List the files and addresses that arguments of `find_shards` stand for; none is looked up.

    As arguments they stand for themselves. A list may be a pipe, which can be read but once.
    """
    given = [arguments] if isinstance(arguments, str) else arguments
    found = (name for argument in given for name in _paths(argument))
    return list(dict.fromkeys(name if "://" in name else os.path.abspath(name) for name in found))


def places_of(names: Iterable[str]) -> list[str]:
    """List the stores and servers that some names are on, as `s3://bucket` and `https://host`."""
    parts = (name.split("/", 3) for name in map(web.clean, names) if "://" in name)
    return list(dict.fromkeys("/".join(each[:3]) for each in parts))


def _looked_up(names: Sequence[str], options: Mapping[str, str]) -> Iterator[Shard]:
    for shards in at_once(partial(_found, options), names, _AT_ONCE):
        yield from shards


def _found(options: Mapping[str, str], name: str, given_up: threading.Event) -> list[Shard]:
    if "://" in name:
        return remote.find(name, options, given_up)
    if not is_utf8(name):
        raise ShardRefused(f"the name {name!r} is not UTF-8, as addresses in a dataset are; rename the file")
    status = os.stat(name)
    return [Shard(name, name, status.st_size, status.st_mtime_ns)]


def _paths(argument: str, lists: tuple[str, ...] = ()) -> Iterator[str]:
    _refuse(argument)
    if argument.startswith("@"):
        yield from _listed(argument[1:], lists)
        return
    is_address = argument.startswith("file://")
    if _SCHEME.match(argument) and not is_address:
        yield from _expand(argument)
        return
    path = unquote(argument.removeprefix("file://")) if is_address else os.path.expanduser(argument)
    # A name that is there is meant as it stands, braces, stars and all.
    if os.path.exists(path):
        yield from _in_folder(path) if os.path.isdir(path) else [path]
        return
    for name in _expand(path):
        yield from _matching(name, argument)


def _refuse(argument: str) -> None:
    if argument.startswith("pipe:"):
        raise ShardRefused(
            f"{argument!r} would run a shell command, which is never done; download the shard and name it"
        )
    scheme = _SCHEME.match(argument)
    if scheme and scheme[1].lower() not in (*remote.SCHEMES, "file"):
        raise ShardRefused(
            f"shards at {scheme[1]}:// are not read ({web.clean(argument)!r}); they are read from "
            f"{', '.join(remote.SCHEMES)} and from this machine"
        )
    if scheme and scheme[1] in ("s3", "s3a", "gs", "tos") and "@" in argument.split("/")[2]:
        raise ShardRefused(
            f"the address {web.clean(argument)!r} was given with credentials; give them with --shard-option"
        )


def _listed(name: str, lists: tuple[str, ...]) -> Iterator[str]:
    real = os.path.abspath(os.path.expanduser(name))
    if real in lists:
        raise ShardRefused(f"the list {name!r} names itself")
    try:
        with open(real, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise ShardNotFound(f"the list of shards {name!r} cannot be read: {error}") from error
    entries = [line for line in lines if line and not line.startswith("#")]
    if not entries:
        raise ShardNotFound(f"the list of shards {name!r} names no shard")
    for entry in entries:
        yield from _here_or_beside(entry, os.path.dirname(real), (*lists, real))


def _here_or_beside(entry: str, folder: str, lists: tuple[str, ...]) -> list[str]:
    """Find an entry of a list from here, else beside the list, which may have been moved with its shards."""
    try:
        return list(_paths(entry, lists))
    except ShardNotFound:
        if os.path.isabs(entry) or entry.startswith(("@", "~")) or _SCHEME.match(entry):
            raise
    return list(_paths(os.path.join(folder, entry), lists))


def shards_in(path: str) -> list[str]:
    """List the names of the shards that lie directly in a folder; what was unpacked beside them is none."""
    with os.scandir(path) as entries:
        names = [each.name for each in entries if not each.is_dir()]
    return sorted(name for name in names if name.lower().endswith(ENDINGS) and not name.startswith("."))


def _in_folder(path: str) -> list[str]:
    names = shards_in(path)
    if not names:
        raise ShardNotFound(f"the folder {path!r} holds no shard ({', '.join(ENDINGS)})")
    return [os.path.join(path, name) for name in names]


def _matching(name: str, argument: str) -> list[str]:
    names = [name] if os.path.exists(name) else sorted(glob.glob(name, recursive=True))
    found = [path for each in names for path in (_in_folder(each) if os.path.isdir(each) else [each])]
    if not found:
        whole = "" if name == argument else f" (from {argument!r})"
        raise ShardNotFound(f"there is no shard {name!r}{whole}; check the name, or leave it out")
    return found


def _expand(text: str) -> Iterator[str]:
    """Expand braces as a shell would: `{000..127}` keeps its zeros, `{a,b}` lists, several multiply."""
    pieces: list[list[str]] = []
    for piece, is_braced in _pieces(text):
        pieces.append(_alternatives(piece) if is_braced else [piece])
    if _count(pieces) > _MOST:
        raise ShardRefused(f"{text!r} stands for more than {_MOST} shards; check its ranges")
    for parts in product(*pieces):
        yield "".join(parts)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Split at the outermost braces."""
    depth = start = 0
    for at, letter in enumerate(text):
        if letter == "{":
            if depth == 0:
                yield text[start:at], False
                start = at
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
            if depth == 0:
                yield text[start + 1 : at], True
                start = at + 1
    yield text[start:], False


def _alternatives(inside: str) -> list[str]:
    if span := _RANGE.fullmatch(inside):
        first, last = int(span[1]), int(span[2])
        if abs(last - first) >= _MOST:
            raise ShardRefused(f"the range {{{inside}}} stands for more than {_MOST} shards")
        is_padded = any(len(end) > 1 and end[0] == "0" for end in span.groups())
        width = max(map(len, span.groups())) if is_padded else 0
        step = 1 if last >= first else -1
        return [f"{number:0{width}d}" for number in range(first, last + step, step)]
    parts = _split_at_commas(inside)
    if len(parts) == 1:
        # No alternatives: a shell leaves such braces as they are.
        return ["{" + each + "}" for each in _expand(inside)]
    return [each for part in parts for each in _expand(part)]


def _split_at_commas(inside: str) -> list[str]:
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _count(pieces: list[list[str]]) -> int:
    total = 1
    for piece in pieces:
        total *= len(piece)
    return total
