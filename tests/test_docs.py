"""The docs cannot lie: what there is stands in them, and what stands in them runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import benchmark_table
import pytest
from examples import examples, run

import laketag
from laketag.cli.app import app
from programs import environment

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
# Their examples are run by test_readers.py and gallery/test_tutorial.py.
ELSEWHERE = ("readers.md", "tutorial.md")
WORDS = "\n".join(page.read_text() for page in DOCS.glob("*.md") if page.name != "cli.md")
"""What is written by hand: the command line's page has everything, whether it is explained or not."""


def test_the_command_line_reference_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "cli_reference.py", "--check"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [str(each.name) for each in app.registered_commands])
def test_every_command_is_in_the_docs(command: str) -> None:
    index = (DOCS / "index.md").read_text()

    assert re.search(rf"`laketag {command}`.*\]\(\S+\.md\S*\) \|$", index, re.MULTILINE)
    assert WORDS.count(f"laketag {command}") > index.count(f"laketag {command}")


@pytest.mark.parametrize("tagger", laketag.known_taggers(), ids=lambda known: known.name)
def test_every_tagger_and_its_columns_are_in_the_docs(tagger: laketag.Known) -> None:
    assert f"### {tagger.name}" in (DOCS / "tag.md").read_text()
    assert all(f"`{column}`" in WORDS for column in tagger.columns)


@pytest.mark.parametrize(
    "name", [name for name, value in vars(laketag.errors).items() if isinstance(value, type)]
)
def test_every_error_is_in_the_docs(name: str) -> None:
    assert f"`{name}`" in (DOCS / "errors.md").read_text()


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*PAGES, ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
    broken = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^):]+)\)", page.read_text())
        if not _leads_somewhere(page, *link.partition("#")[::2])
    ]

    assert broken == []


def _leads_somewhere(page: Path, path: str, section: str) -> bool:
    target = page.parent / path if path else page
    return target.exists() and (not section or section in _sections(target.read_text()))


def _sections(text: str) -> set[str]:
    """Give the names by which links lead to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()

    assert [
        page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if examples(page) and page.name not in ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_the_examples_of_a_page_run_in_order(page: Path, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)

    run(page, tmp_path, environment())


def test_pictures_of_the_docs_are_small() -> None:
    sizes = {picture.name: picture.stat().st_size for picture in (DOCS / "pictures").iterdir()}

    assert {name for name, size in sizes.items() if size > 200_000} == set()
    assert sum(sizes.values()) < 1_000_000


@pytest.mark.parametrize("page", benchmark_table.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_figures_that_were_measured(page: Path) -> None:
    text = page.read_text()

    assert "<!-- " in text
    assert benchmark_table.filled(text) == text


def test_both_readmes_show_the_same_figures() -> None:
    english, chinese = (
        re.findall(r"<!-- \w+: .*? -->", (ROOT / name).read_text())
        for name in ("README.md", "README.zh-CN.md")
    )

    assert english
    assert chinese == english


@pytest.mark.parametrize(
    "what",
    [
        pytest.param(r"```\w+\n.*?```", id="examples"),
        pytest.param(r"^#+ |^\| |^!\[", id="headings, tables and pictures"),
        pytest.param(r"\]\(((?!README)[^)]+)\)", id="links"),
    ],
)
def test_both_readmes_have_the_same(what: str) -> None:
    english, chinese = (
        sorted(re.findall(what, (ROOT / name).read_text(), re.DOTALL | re.MULTILINE))
        for name in ("README.md", "README.zh-CN.md")
    )

    assert english
    assert chinese == english
