"""A cluster that is not there is one line, soon."""

from __future__ import annotations

import socket

import pytest

import places
from laketag.engines.ray import Ray
from laketag.errors import EngineError


def test_a_ray_address_where_no_one_answers_is_refused_within_seconds() -> None:
    places.require_ray()
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]

    with pytest.raises(EngineError, match=rf"no Ray cluster at 127\.0\.0\.1:{port} .*refused"):
        next(Ray(address=f"127.0.0.1:{port}").run(str, [1]))
