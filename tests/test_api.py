"""The promises of the code itself: what importing costs, what is public, how large things are."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import laketag
from laketag.cli.app import app

COMMANDS = {each.callback.__name__ for each in app.registered_commands if each.callback}
SOURCE = Path(laketag.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = (
    "lance",
    "torch",
    "transformers",
    "onnxruntime",
    "ray",
    "pyspark",
    "pyarrow",
    "numpy",
    "pandas",
    "PIL",
)


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import laketag",
        "import laketag.cli.app",
        "from laketag.cli.app import app\ntry: app(['--help'])\nexcept SystemExit: pass",
        "from laketag.cli.app import app\ntry: app(['tag', '--help'])\nexcept SystemExit: pass",
    ],
    ids=["import", "app", "help", "help of a command"],
)
def test_importing_and_help_load_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


def test_taggers_are_listed_without_lance_or_a_model() -> None:
    assert not loaded_by("import laketag; laketag.known_taggers()") & {"lance", "torch", "onnxruntime"}


@pytest.mark.parametrize("name", laketag.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(laketag, name)

    assert inspect.getdoc(value)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        laketag.nothing  # noqa: B018  # the look is what is tested


def test_dir_lists_the_public_names() -> None:
    assert set(laketag.__all__) <= set(dir(laketag))


def test_every_error_is_in_the_tree_that_the_docstring_draws() -> None:
    lines = [line for line in (laketag.errors.__doc__ or "").splitlines() if "Error" in line or "─" in line]
    drawn = {next(word for word in line.split() if word[0].isalpha()) for line in lines}
    classes = {name for name, value in vars(laketag.errors).items() if isinstance(value, type)}

    assert classes == drawn
    assert all(issubclass(getattr(laketag.errors, name), laketag.LaketagError) for name in classes)


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield f"{file.relative_to(SOURCE)}:{node.name}", node


def test_a_function_fits_on_a_screen() -> None:
    # Its body: a docstring that states a contract may be as long as the contract is.
    wrong = []
    for name, node in functions():
        first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
        if (node.end_lineno or 0) - first.lineno + 1 > 40:
            wrong.append(name)

    assert wrong == []


def test_a_signature_has_at_most_six_parameters() -> None:
    wrong = []
    for name, node in functions():
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        # A command's parameters are its options.
        is_command = name.startswith("cli/") and node.name in COMMANDS
        if len([n for n in names if n not in ("self", "cls")]) > 6 and not is_command:
            wrong.append(name)

    assert wrong == []


def test_a_module_is_read_in_one_sitting() -> None:
    wrong = [str(file.relative_to(SOURCE)) for file in FILES if len(file.read_text().splitlines()) > 400]

    assert wrong == []


def test_a_module_says_what_it_is_for() -> None:
    wrong = [
        str(file.relative_to(SOURCE))
        for file in FILES
        if file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))
    ]

    assert wrong == []


def test_the_version_is_that_of_the_package() -> None:
    project = (SOURCE.parent.parent / "pyproject.toml").read_text()

    assert f'version = "{laketag.__version__}"' in project


def test_the_package_carries_its_types() -> None:
    assert (SOURCE / "py.typed").exists()
    assert importlib.import_module("laketag.__main__")
