"""Where a process and all that it has started listen for the network, as Linux has it in /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTENS = "0A"
_LOOPBACK_6 = "00000000000000000000000001000000"


def outer_addresses(process: int) -> list[str]:
    """List the addresses of listening sockets of the family that others than this machine could reach."""
    sockets = {socket for member in _family(process) for socket in _sockets(member)}
    assert any(socket in sockets for _, socket in _listeners()), "nothing listens at all"
    return [address for address, socket in _listeners() if socket in sockets and not _is_loopback(address)]


def _family(process: int) -> list[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    family = [process]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _sockets(process: int) -> Iterator[str]:
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            with suppress(OSError):
                yield os.readlink(descriptor).removeprefix("socket:[").removesuffix("]")


def _listeners() -> Iterator[tuple[str, str]]:
    for file in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(file).read_text().splitlines()[1:]:
            _, address, _, state, *_, socket = line.split()[:10]
            if state == _LISTENS:
                yield address.partition(":")[0], socket


def _is_loopback(address: str) -> bool:
    # Four bytes of an IPv4 address, or the last four of one within IPv6, the first byte last: 127.
    return address == _LOOPBACK_6 or address.endswith("7F")
