"""What all tests share: where modules are found, what is kept of them, and how long the long tests are."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import laketag
import places
from laketag.engines.protocol import Engine


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--rounds 10` kills and restarts ten times where the default run does it three times."""
    parser.addoption("--fault-seconds", type=float, default=3.0, help="how long a store fails in each step")
    parser.addoption("--fuzz", type=int, default=40, help="mutants of each kind in tests with random damage")
    parser.addoption("--rounds", type=int, default=3, help="rounds of every test that kills at random")


def pytest_configure() -> None:
    """Keep bytecode: tests start hundreds of processes, and each would compile laketag anew."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give tests that ask for a `round_` as many as were asked for."""
    if "round_" in metafunc.fixturenames:
        metafunc.parametrize("round_", range(metafunc.config.getoption("--rounds")))


TOGETHER = {
    "engines": r"\[(.*-)?(ray|spark|spark-cluster)(-.*)?\]$",
    "demo": r"::test_the_examples_of_a_page|/test_(readers|tutorial|walkthrough)\.py",
    "gallery": r"/gallery/",
    "stores": r"/storage/",
    "torch": r"/training/|/test_(aesthetic|exporting|fragment_by_fragment|predicting)",
    "nodes": r"/test_two_nodes\.py",
    "killed exports": r"/test_export_killed\.py",
}
"""The tests that share what takes seconds to start, by their ids."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Of several processes, let one run all tests that share what is started; xdist gives it out first.

    xdist has `--dist loadgroup` for this, which groups nothing with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((name for name, ids in TOGETHER.items() if re.search(ids, nodeid)), nodeid)

    return Together(config, log)


@pytest.fixture(scope="session", params=places.ALL)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Give each engine in turn: pytest runs all tests of one before it starts the next."""
    with places.opened(request.param) as engine:
        yield engine


@dataclass(frozen=True)
class Shown:
    """A demo, and what it printed."""

    report: laketag.DemoReport
    output: str


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """Run `laketag demo` once for all tests, in a folder with a space in its name. Read it only."""
    folder = tmp_path_factory.mktemp("demo") / "first look"
    folder.mkdir()
    output = folder.parent / "output.txt"
    with output.open("w") as out:
        report = laketag.demo(folder / "laketag-demo", out=out)
    return Shown(report, output.read_text())


@pytest.fixture(scope="session")
def demo_folder(shown: Shown) -> Path:
    """The folder in which `laketag demo` left its own."""
    return Path(shown.report.folder).parent
