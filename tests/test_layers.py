"""Who imports whom. A failure here is mended by moving code, not by an exception."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "laketag"

ALLOWED = {
    "errors": set(),
    "version": set(),
    "times": set(),
    "lake": {"errors", "times"},
    "taggers": {"errors"},
    "engines": {"errors", "version"},
    "shards": {"errors", "lake", "engines", "times"},
    "tagging": {"errors", "lake", "engines", "taggers"},
    "gallery": {"errors", "lake"},
    "training": {"errors", "lake", "taggers", "times"},
    "walkthrough": {"errors"},
    "cli": {"errors", "laketag", "times"},
    # The public API: names of the layers, each imported when it is used.
    "laketag": {
        *("errors", "lake", "taggers", "engines", "shards", "tagging", "gallery", "training", "version"),
        "walkthrough",
    },
    "__main__": {"cli"},
}
"""What each layer may import of ours, itself apart; `laketag` is the public API."""

ONLY_IN = {
    "lance": ("lake",),
    "obstore": ("lake.objects",),
    "boto3": ("lake",),
    "ray": ("engines.ray",),
    "pyspark": ("engines.spark",),
    "torch": ("taggers", "training"),
    "transformers": ("taggers",),
    "onnxruntime": ("taggers",),
    "typer": ("cli",),
    "rich": ("cli",),
    "jinja2": ("gallery",),
    "starlette": ("gallery",),
    "uvicorn": ("gallery",),
}
"""Packages that are known in one place only."""

ONLY_WHEN_CALLED = ("torch", "transformers", "onnxruntime", "lance", "obstore", "boto3", "ray", "pyspark")
"""Packages that are slow to import or may be missing."""


@dataclass(frozen=True)
class Import:
    module: str
    """The importing module, without `laketag.`."""
    name: str
    """What is imported, in full."""
    is_at_top: bool
    """Whether importing the module imports it."""

    @property
    def layer(self) -> str:
        return self.module.partition(".")[0]

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]


def imports() -> Iterator[Import]:
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__") or "laketag"
        yield from imports_in(ast.parse(file.read_text()), module, is_at_top=True)


def imports_in(node: ast.AST, module: str, *, is_at_top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from imports_in(child, module, is_at_top=False)
            continue
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, is_at_top)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module} imports relatively"
            for alias in child.names:
                yield Import(module, f"{child.module}.{alias.name}", is_at_top)
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_in(child, module, is_at_top=is_at_top and not is_function)


IMPORTS = list(imports())


def target_layer(name: str) -> str:
    inner = name.split(".")[1] if "." in name else ""
    is_module = bool(inner) and ((SOURCE / inner).is_dir() or (SOURCE / f"{inner}.py").exists())
    return inner if is_module else "laketag"


def test_every_module_lies_in_a_known_layer() -> None:
    layers = {each.layer for each in IMPORTS}

    assert layers <= set(ALLOWED)


def test_a_layer_imports_only_those_below_it() -> None:
    wrong = [
        f"{each.module} imports {each.name}"
        for each in IMPORTS
        if each.package == "laketag"
        and (target := target_layer(each.name)) != each.layer
        and target not in ALLOWED[each.layer]
    ]

    assert wrong == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_in_its_place_only(package: str) -> None:
    places = ONLY_IN[package]
    wrong = [
        each.module
        for each in IMPORTS
        if each.package == package
        and not any(each.module == place or each.module.startswith(f"{place}.") for place in places)
    ]

    assert wrong == []


def test_slow_packages_are_imported_inside_functions() -> None:
    # lake/ is itself imported only when a dataset is needed, so it may import Lance at the top.
    wrong = [
        f"{each.module} imports {each.name} at its top"
        for each in IMPORTS
        if each.is_at_top
        and each.package in ONLY_WHEN_CALLED
        and (each.package, each.layer) != ("lance", "lake")
    ]

    assert wrong == []


def is_the_default(call: ast.Call) -> bool:
    """Whether a call is the one that sets what models' libraries look for, where the user has not."""
    return ast.unparse(call) == "os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')"


def test_only_the_command_line_reads_the_environment() -> None:
    wrong = []
    for file in sorted(SOURCE.rglob("*.py")):
        if file.is_relative_to(SOURCE / "cli"):
            continue
        nodes = list(ast.walk(ast.parse(file.read_text())))
        default = {
            id(node.func.value) for node in nodes if isinstance(node, ast.Call) and is_the_default(node)
        }
        for node in nodes:
            is_read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
            is_read = is_read and id(node) not in default
            if is_read and ast.unparse(node.value) == "os":
                wrong.append(f"{file.relative_to(SOURCE)}:{node.lineno}")

    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = ("utils", "helpers", "common", "manager", "handler")
    wrong = [
        file.name for file in SOURCE.rglob("*.py") if file.stem in empty or file.stem.startswith("base_")
    ]

    assert wrong == []
