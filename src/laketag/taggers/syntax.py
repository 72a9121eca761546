"""The meaning of a user's code: its syntax tree, without comments, docstrings and layout.

Followed from a function or class are the names that it uses: functions, classes, constants and
imports at the top level of its module, and of other modules of the same top-level package. What
other packages do is not looked into: their versions are noted beside the labels.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Python 3.11 counts the depth of its parser once for all threads, and stops where two parse at once.
_PARSING = threading.Lock()
_UNSAID = ("ctx", "type_comment", "kind", "type_ignores")


@dataclass(frozen=True)
class Source:
    """The top level of one module, or of one notebook cell: the statements that bind each name."""

    name: str
    package: str
    tree: ast.Module
    bindings: dict[str, list[ast.stmt]]


def meaning(code: FunctionType | type) -> str | None:
    """Digest a function or class with all that it uses; None where its source cannot be read.

    The same for another comment, docstring, layout or file name; another for a changed constant or helper.
    """
    found = _found(code)
    if found is None:
        return None
    source, before = found
    start = _definition(source, code.__name__, before)
    if start is None:
        return None
    texts = [_text(start), *sorted(_reached(source, start))]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def names_beside(code: FunctionType) -> set[str]:
    """Give the names that are bound where a function stands: in its module, or its cell of a notebook."""
    found = _found(code)
    return set(found[0].bindings) if found is not None else set()


def meaning_of_file(path: Path) -> str:
    """Digest a whole Python file by its syntax tree."""
    return hashlib.sha256(_text(_tree(path.read_text(encoding="utf-8"))).encode()).hexdigest()


def _found(code: FunctionType | type) -> tuple[Source, int] | None:
    """Give the source in which something is defined, and how many lines stand before."""
    try:
        with _PARSING:  # to find a class, `inspect` parses
            lines, before = inspect.findsource(code)
        return _parsed("".join(lines), code.__module__), before
    except (OSError, TypeError, SyntaxError):
        return None


def _tree(text: str) -> ast.Module:
    with _PARSING:
        return ast.parse(text)


def _parsed(text: str, name: str) -> Source:
    tree = _tree(text)
    for node in ast.walk(tree):
        if isinstance(node, _Definition):
            # What `@tagger(...)` says is in the tagger's fields; its `batch_size` determines no label.
            node.decorator_list = [d for d in node.decorator_list if not _is_tagger(d)]
    bindings: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        for bound in dict.fromkeys(_bound(statement)):
            bindings.setdefault(bound, []).append(statement)
    spec = _spec(name)
    package = (
        name if spec is not None and spec.submodule_search_locations is not None else name.rpartition(".")[0]
    )
    return Source(name, package, tree, bindings)


def _definition(source: Source, name: str, before: int) -> ast.stmt | None:
    """Find the first definition of a name after so many lines: its decorators may not be in the tree."""
    named = (n for n in ast.walk(source.tree) if isinstance(n, _Definition) and n.name == name)
    found = [node for node in named if node.lineno > before]
    return min(found, key=lambda node: node.lineno, default=None)


def _reached(source: Source, start: ast.stmt) -> set[str]:
    texts: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(source, start)]
    while todo:
        where, statement = todo.pop()
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        uses = [(where, name) for name in names]
        uses += [use for node in ast.walk(statement) for use in _imports(where, node, None)]
        while uses:
            place, name = uses.pop()
            if (place.name, name) in seen:
                continue
            seen.add((place.name, name))
            if name not in place.bindings:
                uses += _starred(place, name)
            for binding in place.bindings.get(name, ()):
                if isinstance(binding, ast.Import | ast.ImportFrom):
                    texts.add(_imported(place, binding, name))
                    uses += _imports(place, binding, name)
                elif binding is not start:
                    texts.add(f"{name}: {_text(binding)}")
                    todo.append((place, binding))
    return texts


def _imports(source: Source, node: ast.AST, name: str | None) -> Iterator[tuple[Source, str]]:
    """Yield what an import binds (to `name`, or all) in modules of the source's own package."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return
    for alias in node.names:
        if name is not None and _alias_name(alias) != name:
            continue
        if isinstance(node, ast.Import):
            yield from _whole(_own(source, alias.name))
            continue
        module = _module_name(source, node)
        target = _own(source, module)
        if target is not None and alias.name in target.bindings:
            yield target, alias.name
        else:
            yield from _whole(_own(source, f"{module}.{alias.name}") if alias.name != "*" else target)


def _starred(source: Source, name: str) -> Iterator[tuple[Source, str]]:
    """Yield the modules of the source's own package from which `import *` may bind a name."""
    for statement in source.bindings.get("*", ()):
        for node in ast.walk(statement):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                target = _own(source, _module_name(source, node))
                if target is not None and not target.bindings.keys().isdisjoint((name, "*")):
                    yield target, name


def _whole(source: Source | None) -> Iterator[tuple[Source, str]]:
    if source is not None:
        yield from ((source, name) for name in source.bindings)


def _own(source: Source, module: str) -> Source | None:
    if module.partition(".")[0] != source.name.partition(".")[0]:
        return None
    spec = _spec(module)
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    return _parsed(Path(str(spec.origin)).read_text(encoding="utf-8"), module)


def _spec(module: str) -> Any:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):  # not there, or a script or notebook without a spec
        return None


def _module_name(source: Source, node: ast.ImportFrom) -> str:
    if node.level == 0:
        return node.module or ""
    parents = source.package.split(".")[: len(source.package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _imported(source: Source, node: ast.Import | ast.ImportFrom, name: str) -> str:
    aliases = [alias.name for alias in node.names if _alias_name(alias) == name]
    origin = _module_name(source, node) if isinstance(node, ast.ImportFrom) else ""
    if origin.partition(".")[0] == source.name.partition(".")[0]:
        origin = "." + origin.partition(".")[2]  # the package by another name is the same code
    return f"{name}: import {origin} {' '.join(aliases)}"


def _alias_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _Definition):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (_alias_name(alias) for alias in statement.names)
    elif isinstance(statement, ast.Assign):
        yield from (name for target in statement.targets for name in _roots(target))
    elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
        yield from _roots(statement.target)
    elif isinstance(statement, ast.Expr):  # TABLE.update(...)
        if isinstance(statement.value, ast.Call) and isinstance(statement.value.func, ast.Attribute):
            yield from _roots(statement.value.func)
    else:  # if, try, with, for: whatever is bound anywhere inside
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, _Definition | ast.Import | ast.ImportFrom):
                yield from _bound(node)


def _roots(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        yield from _roots(target.value)
    elif isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from _roots(element)


def _is_tagger(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return getattr(function, "attr", getattr(function, "id", None)) == "tagger"


def _text(node: object) -> str:
    # Not `ast.dump`: what that prints changes from one Python version to the next.
    if isinstance(node, ast.AST):
        said = [(k, v) for k, v in ast.iter_fields(node) if k not in _UNSAID and v is not None and v != []]
        return f"{type(node).__name__}({','.join(f'{k}={_text(v)}' for k, v in said)})"
    if isinstance(node, list):
        return f"[{','.join(_text(element) for element in node if not _is_bare_string(element))}]"
    return f"{type(node).__name__}:{node!r}"


def _is_bare_string(node: object) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str)
