"""What all tests share: where their own modules are found, and how long the long ones are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rounds 10` kills and restarts ten times where the default run does it three times."""
    parser.addoption("--rounds", type=int, default=3, help="rounds of every test that kills at random")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests that ask for a `round_` as many as were asked for."""
    if "round_" in metafunc.fixturenames:
        metafunc.parametrize("round_", range(metafunc.config.getoption("--rounds")))
