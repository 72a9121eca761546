"""What a run asks of a store: so many requests for a chunk and for a fragment, and several at a time."""

from __future__ import annotations

import re
from collections import Counter

import lance
import pytest

from datasets import table
from fakes import DigestLabel
from laketag.tagging.run import tag
from laketag.tagging.settings import TagSettings
from proxy import Proxy, proxied
from servers import Store, options

pytestmark = pytest.mark.slow

ROWS, FRAGMENTS_OF_A_CHUNK = 10, 10


def kind(request: str) -> str:
    """Say what a request is about."""
    method = "LIST" if "list-type=2" in request else request.partition(" ")[0]
    for what, where in (("labels", "/labels/"), ("attempts", "/attempts/"), ("data", r"/data/[^/?]*\.lance")):
        if re.search(where, request.replace("%2F", "/")):
            return f"{method} {what}"
    return "other"


def asked(proxy: Proxy, uri: str, **settings: bool) -> Counter[str]:
    """Tag through the proxy; gives the requests by what they are about."""
    proxy.asked.clear()
    chunk_rows = ROWS * FRAGMENTS_OF_A_CHUNK
    tag(
        uri,
        [DigestLabel()],
        storage_options=options(proxy.endpoint),
        settings=TagSettings(chunk_rows=chunk_rows, **settings),
    )
    return Counter(map(kind, proxy.asked))


def more(counts: list[Counter[str]]) -> dict[str, int]:
    """Say what twice the fragments ask for more; leases are renewed as time goes, and count with the rest."""
    grown = {kind: counts[1][kind] - counts[0][kind] for kind in counts[1].keys() - {"other"}}
    return {kind: number for kind, number in grown.items() if number}


def test_requests_for_a_fragment_and_for_a_chunk(store: Store, uri: str) -> None:
    staged, committed, idle, most = [], [], [], []
    with proxied(store.port) as proxy:
        for fragments in (40, 80):
            place = f"{uri}-{fragments}"
            rows = table(range(fragments * ROWS))
            lance.write_dataset(rows, place, storage_options=store.options, max_rows_per_file=ROWS)
            staged.append(asked(proxy, place, stage_only=True))
            proxy.delay, proxy.most = 0.02, 0  # so that requests at the same time are seen to be
            committed.append(asked(proxy, place, commit_only=True))
            proxy.delay = 0
            most.append(proxy.most)
            idle.append(asked(proxy, place))

    fragments, chunks = 40, 4
    assert more(staged) == {
        "GET data": fragments,
        "LIST attempts": chunks,  # one of each kind for a task, which is a chunk where there are so few
        "LIST labels": chunks,
        "PUT attempts": chunks,
        "PUT labels": chunks,
    }
    assert more(committed) == {
        "PUT data": fragments,
        "HEAD data": fragments,  # a column file is opened again and read before anyone believes it
        "GET data": fragments,
        "HEAD labels": 2 * chunks,  # its footer, then its labels
        "GET labels": 2 * chunks,
    }
    assert more(idle) == {}, "rows are read where every one has its label"
    assert most[1] >= 4, "requests wait for each other"
