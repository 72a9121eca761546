"""Digests: of a row's inputs, so that a stale label is found, and of what a tagger means."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePath
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from laketag.errors import BadTagger
from laketag.taggers.protocol import Tagger
from laketag.taggers.syntax import meaning, names_beside

_PACKAGES = ("laketag", "numpy", "pillow")
_NO_IDENTITY = ("name", "reads", "columns", "batch_size", "chunk_rows", "version", "packages")


def input_digest(inputs: Mapping[str, Any]) -> int:
    """Digest a row's raw inputs, by role; never null, also where an input is.

    An xxh3 of 64 bits, as a signed integer: of the bytes themselves where they are the only input,
    else of the values, with their roles, in the order of the mapping.
    """
    # It tells whether bytes changed, not who changed them. A sha256 (1.8 GB/s here) would cost as much
    # as the scan of the images, and 64 bits of it would keep no stronger promise.
    if len(inputs) == 1:
        (value,) = inputs.values()
        if isinstance(value, bytes | bytearray | memoryview):
            return _signed(xxhash.xxh3_64_intdigest(value))
    total = xxhash.xxh3_64()
    for role, value in inputs.items():
        # The only input goes without its role: a null image is the same to who decodes it and who does not.
        for part in (role, value) if len(inputs) > 1 else (value,):
            head, body = _framed(part)
            total.update(head)
            total.update(body)
    return _signed(total.intdigest())


def _signed(digest: int) -> int:
    return digest - (1 << 64) if digest >> 63 else digest


def tagger_digest(tagger: Tagger) -> str:
    """Digest what determines a tagger's labels: 32 hex digits.

    Raises:
        BadTagger: its source cannot be read, and it has neither `identity` nor `version`.
    """
    said = {
        "name": tagger.name,
        "reads": list(tagger.reads),
        "columns": [[field.name, str(field.type)] for field in tagger.columns],
        "identity": dict(identity(tagger)),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def identity(tagger: Tagger) -> dict[str, str]:
    """Say what determines a tagger's labels, in its own words where it has any.

    Raises:
        BadTagger: as `tagger_digest`.
    """
    own = getattr(tagger, "identity", None)
    if callable(own):
        return {str(key): str(value) for key, value in own().items()}
    said = {key: canonical(value) for key, value in _fields(tagger).items()}
    version = getattr(tagger, "version", None)
    if version is not None:
        return {**said, "version": str(version)}
    source = _code(type(tagger), ())
    if source is None:
        raise BadTagger(f"tagger {tagger.name}: its source cannot be read; give it a `version`")
    return {**said, "source": source}


def provenance(tagger: Tagger) -> dict[str, str]:
    """Say what makes a tagger's labels, for people: name, digest, identity and package versions."""
    packages = (*_PACKAGES, *getattr(tagger, "packages", ()))
    versions = {f"version.{package}": _version(package) for package in packages}
    return {
        **identity(tagger),
        "tagger": tagger.name,
        "digest": tagger_digest(tagger),
        "version.python": platform.python_version(),
        **{key: value for key, value in versions.items() if value},
    }


def canonical(value: object, within: tuple[object, ...] = ()) -> str:
    """Write a parameter as text that is the same in every process.

    Args:
        value: the parameter.
        within: functions of which it is a part, so that one that calls itself has an end.

    Raises:
        BadTagger: a value of a kind that has no such text.
    """
    text = _code(value, within) if isinstance(value, FunctionType | type) else None
    if text is not None:
        return text
    if value is None or isinstance(value, bool | int | float | str | bytes | PurePath | pa.DataType):
        return value if isinstance(value, str) else str(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return hashlib.sha256(b"".join(_framed(value))).hexdigest()
    if isinstance(value, pa.Schema):
        return str([(field.name, str(field.type)) for field in value])
    if isinstance(value, Mapping):
        return str(sorted((canonical(k, within), canonical(v, within)) for k, v in value.items()))
    if isinstance(value, list | tuple):
        return str([canonical(element, within) for element in value])
    if isinstance(value, set | frozenset):
        return str(sorted(canonical(element, within) for element in value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__qualname__} {canonical(_by_name(value), within)}"
    raise BadTagger(f"a {type(value).__name__} has no lasting text for the tagger's digest; give a `version`")


def _code(code: FunctionType | type, within: tuple[object, ...]) -> str | None:
    """Write a class or a function, with the values that it was given where it was made."""
    own = meaning(code)
    if own is None:
        return None
    if code in within:
        return code.__qualname__
    held = [canonical(value, (*within, code)) for value in _held(code)]
    return f"{own} {held}" if held else own


def _held(code: FunctionType | type) -> list[object]:
    """List the values that a function, or a class's methods, have from around them: no source tells them."""
    if isinstance(code, type):
        return [value for method in _written(code) for value in _held(method)]
    cells = zip(code.__code__.co_freevars, code.__closure__ or (), strict=True)
    try:
        held = [cell.cell_contents for name, cell in cells if name != "__class__"]  # that is for `super()`
    except ValueError as error:
        raise BadTagger(f"{code.__name__} uses a name that has no value yet; give a `version`") from error
    if "<locals>" in code.__qualname__:
        # Two calls of what it stands in may have given it other ones.
        held += [*(code.__defaults__ or ()), *(code.__kwdefaults__ or {}).values()]
    if others := _of_other_cells(code):
        held.append(others)
    return held


def _of_other_cells(code: FunctionType) -> dict[str, object]:
    """Give what a function in a notebook uses of other cells, by name: its own cell does not tell."""
    if "__file__" in code.__globals__:  # a module, whose source tells all of it
        return {}
    names, beside = _globals_of(code.__code__) & code.__globals__.keys(), names_beside(code)
    found = {name: code.__globals__[name] for name in names}
    # A function that stands beside may use other cells in turn.
    return {
        name: _or_its_name(value, code.__module__)
        for name, value in found.items()
        if name not in beside or isinstance(value, FunctionType)
    }


def _globals_of(code: CodeType) -> set[str]:
    steps = dis.get_instructions(code)
    used = {str(step.argval) for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return used.union(*(_globals_of(each) for each in code.co_consts if isinstance(each, CodeType)))


def _or_its_name(value: object, module: str) -> object:
    """Give a module, and what another module defines, by its name: what it does is not looked into."""
    home, name = getattr(value, "__module__", ""), getattr(value, "__name__", None)
    return value if name is None or home == module else f"{home}.{name}"


def _written(kind: type) -> Iterator[FunctionType]:
    """Yield the methods that somebody wrote, not those that `dataclass` did."""
    for name, each in vars(kind).items():
        method = getattr(each, "__func__", getattr(each, "fget", each))
        if not isinstance(method, FunctionType) or name.startswith("__annotate"):
            continue
        # What `dataclass` makes is in no file, or wrapped.
        if method.__code__.co_filename != "<string>" and method.__code__.co_name == method.__name__:
            yield method


def _by_name(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _fields(tagger: object) -> dict[str, Any]:
    found = _by_name(tagger) if dataclasses.is_dataclass(tagger) else dict(vars(tagger))
    return {name: found[name] for name in sorted(found) if name not in _NO_IDENTITY}


def _framed(value: object) -> tuple[bytes, Any]:
    """Give a head, which tells type and length, and the body; no two values frame alike."""
    body: Any
    if isinstance(value, bytes | bytearray | memoryview):
        kind, body = "bytes", value
    elif isinstance(value, str):
        kind, body = "str", value.encode("utf-8", "surrogatepass")
    elif isinstance(value, np.ndarray) and value.dtype != object:
        kind, body = f"array {value.dtype.str} {value.shape}", value.tobytes()
    elif isinstance(value, Mapping):
        kind, body = "dict", b"".join(p for item in value.items() for v in item for p in _framed(v))
    elif isinstance(value, list | tuple | np.ndarray):
        kind, body = "list", b"".join(p for v in value for p in _framed(v))
    elif type(value).__repr__ is object.__repr__:  # its address would be digested
        raise TypeError(f"an input of type {type(value).__name__} cannot be digested")
    else:
        kind, body = type(value).__name__, repr(value).encode()
    return f"{kind} {len(body)}\n".encode(), body


@functools.cache  # looking for one package reads the folders of all
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
