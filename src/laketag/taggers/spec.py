"""From what people write, `NAME`, `module:attribute` and `NAME?key=value`, to a tagger."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import importlib.util
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from laketag.errors import BadTagger, LaketagError, UnknownTagger
from laketag.taggers.decorated import FunctionTagger, take_along
from laketag.taggers.protocol import Tagger, check
from laketag.taggers.rows import reason

BUILT_IN = {
    "aesthetic": "laketag.taggers.aesthetic:Aesthetic",
    "aesthetic-head": "laketag.taggers.rescoring:AestheticHead",
    "nsfw": "laketag.taggers.nsfw:Nsfw",
    "quality": "laketag.taggers.quality:Quality",
}

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Known:
    """A built-in tagger, as `laketag taggers` lists it."""

    name: str
    reads: tuple[str, ...]
    columns: dict[str, str]
    """Types by name."""
    parameters: tuple[str, ...]
    weights: str
    """Where its weights come from."""
    is_here: bool
    """Whether what it needs is installed."""
    install: str | None
    """What to install where it is not."""
    downloads: tuple[str, ...]
    """Weights that are not on this machine, and come with the first run."""


def find(spec: str) -> Tagger:
    """Find a tagger by `NAME` or `module:attribute`, with parameters as `NAME?key=value&key=value`.

    A module is looked for in the current folder, then on the Python path. It, or the package that
    it is in, will travel to workers by value.

    Raises:
        UnknownTagger: no such name, module or attribute.
        BadTagger: an unknown or badly typed parameter, or a module or class that is no tagger.
    """
    name, _, query = spec.partition("?")
    parameters = _parsed(spec, query)
    if ":" not in name:
        if name not in BUILT_IN:
            raise UnknownTagger(
                f"no tagger {name!r}{_close(name, list(BUILT_IN))}; `module:attribute` names your own"
            )
        name = BUILT_IN[name]
    found = _attribute(*name.split(":", 1))
    if isinstance(found, types.FunctionType):
        raise BadTagger(f"{name} is a plain function: decorate it with @laketag.tagger(columns=...)")
    return check(_with_parameters(spec, found, parameters))


def find_or_check(tagger: Tagger | str) -> Tagger:
    """Find the tagger of a name, or give one back if it is one.

    Raises:
        UnknownTagger: no such name, module or attribute.
        BadTagger: it is no tagger.
    """
    return find(tagger) if isinstance(tagger, str) else check(tagger)


def known() -> list[Known]:
    """List the built-in taggers, by name; nothing large is imported for it."""
    return [_known(name) for name in sorted(BUILT_IN)]


def _known(name: str) -> Known:
    tagger: Any = find(name)
    modules: tuple[str, ...] = getattr(tagger, "modules", ())
    is_here = all(importlib.util.find_spec(module) is not None for module in modules)
    extra = getattr(tagger, "extra", None)
    return Known(
        name=name,
        reads=tagger.reads,
        columns={field.name: str(field.type) for field in tagger.columns},
        parameters=tuple(_settable(type(tagger))),
        weights=tagger.weights,
        is_here=is_here,
        install=f"laketag[{extra}]" if extra and not is_here else None,
        downloads=tagger.to_download() if hasattr(tagger, "to_download") else (),
    )


def _parsed(spec: str, query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key or key in parameters:
            raise BadTagger(f"{spec}: {part!r} is not one key=value, or its key is given twice")
        parameters[key] = unquote(value)
    return parameters


def _attribute(module_name: str, attribute: str) -> Any:
    module = (
        importlib.import_module(module_name) if module_name.startswith("laketag.") else _imported(module_name)
    )
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            taggers = [key for key, value in vars(module).items() if isinstance(value, Tagger)]
            raise UnknownTagger(f"module {module_name} has no {attribute!r}{_close(attribute, taggers)}")
        found = getattr(found, part)
    return found


def _imported(name: str) -> types.ModuleType:
    folder = os.getcwd()
    importlib.invalidate_caches()  # the module may be younger than the last look into its folder
    sys.path.insert(0, folder)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise BadTagger(f"module {name} needs {error.name}, which is not installed here") from error
        raise UnknownTagger(f"no module {name} in {folder} or on the Python path") from error
    except LaketagError:
        raise
    except Exception as error:  # a user's code: what it says is all that is known
        raise BadTagger(f"module {name} cannot be imported: {reason(error)}") from error
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)  # last: found by what the module imports later, hiding nothing installed
    take_along(name)
    return module


def _with_parameters(spec: str, found: Any, parameters: dict[str, str]) -> Any:
    made = found if isinstance(found, type) else type(found)
    settable = {} if isinstance(found, FunctionTagger) else _settable(made)
    for key in parameters:
        if key not in settable:
            allowed = f"it takes {', '.join(settable)}" if settable else "it takes none"
            raise BadTagger(f"{spec}: no parameter {key!r}; {allowed}")
    values = {key: _typed(spec, key, text, settable[key]) for key, text in parameters.items()}
    try:
        if isinstance(found, type):
            return found(**values)
        return dataclasses.replace(found, **values) if values else found
    except LaketagError:
        raise
    except Exception as error:  # a user's code, as above
        raise BadTagger(f"{spec}: {reason(error)}") from error


def _settable(made: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(made):
        return {}
    hints = get_type_hints(made)
    return {field.name: hints[field.name] for field in dataclasses.fields(made) if field.init}


def _typed(spec: str, key: str, text: str, kind: Any) -> Any:
    try:
        return _converted(text, kind)
    except (ValueError, KeyError) as error:
        wanted = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        raise BadTagger(f"{spec}: {key} is {text!r}, which is not of the type {wanted}") from error


def _converted(text: str, kind: Any) -> Any:
    if kind is bool:
        return _WORDS[text.lower()]
    if kind in (int, float, str, Path):
        return kind(text)
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}[text]
    if get_origin(kind) in (Union, types.UnionType):
        choices = [choice for choice in get_args(kind) if choice is not type(None)]
        if len(choices) == 1:
            return _converted(text, choices[0])
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        return tuple(_converted(part, get_args(kind)[0]) for part in text.split(","))
    raise ValueError(kind)


def _close(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {', '.join(sorted(names))}" if names else ""
