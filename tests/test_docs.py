"""The docs cannot lie: what there is stands in them, and what stands in them runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import benchmark_table
import pytest

import laketag
from laketag.cli.app import app
from programs import environment

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
WORDS = "\n".join(page.read_text() for page in DOCS.glob("*.md"))


@dataclass(frozen=True)
class Example:
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the example is, where its first line names one."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else None


def examples(page: Path) -> list[Example]:
    return [
        Example(*found)
        for found in re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text(), re.M | re.S)
    ]


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
    assert f"laketag {command}" in WORDS


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
    broken = [
        f"{page.name}: {target}"
        for page in (*PAGES, ROOT / "CONTRIBUTING.md")
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text()

    assert [
        page.name for page in DOCS.glob("*.md") if page.name != "index.md" and f"({page.name})" not in index
    ] == []


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `laketag demo` leaves behind."""
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run(
        [sys.executable, "-m", "laketag", "demo"],
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if examples(page) and page.name != "readers.md"],
    ids=lambda page: page.stem,
)
def test_the_examples_of_a_page_run_in_order(page: Path, demo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(demo_folder, tmp_path, dirs_exist_ok=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, command in {"laketag": f"{sys.executable} -m laketag", "python": sys.executable}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
    variables = environment() | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    for example in examples(page):
        if example.file:
            (tmp_path / example.file).write_text(example.text)
            continue
        command = ["bash", "-e"] if example.language == "bash" else [sys.executable, "-"]
        done = subprocess.run(
            command,
            input=example.text,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=variables,
            check=False,
        )
        assert done.returncode == 0, f"{example.text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", benchmark_table.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_the_figures_that_were_measured(page: Path) -> None:
    text = page.read_text()

    assert "<!-- " in text
    assert benchmark_table.filled(text) == text


def test_both_readmes_have_the_same_examples() -> None:
    english, chinese = (
        re.findall(r"```(bash|console|python)\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        for name in ("README.md", "README.zh-CN.md")
    )

    assert english
    assert chinese == english
