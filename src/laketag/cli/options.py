"""The options that several commands share, and how their text becomes values."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin, get_type_hints

import typer

from laketag.cli.environment import add_variables
from laketag.errors import WrongUsage

if TYPE_CHECKING:
    import laketag

ENGINES = {"local": "Local", "ray": "Ray", "spark": "Spark"}
"""By name, the public class of each engine."""

Uri = Annotated[
    str, typer.Argument(metavar="URI", help="The dataset: a folder, s3://..., or what else Lance can open.")
]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        "-o",
        metavar="KEY=VALUE",
        help="For the dataset's store, as Lance takes it; repeats.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else there.")
]
EngineName = Annotated[
    str, typer.Option("--engine", metavar="NAME", help=f"Where tasks run: {', '.join(ENGINES)}.")
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Worker processes; one where it is not given.")
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        metavar="KEY=VALUE",
        help="For the engine, as address=auto, master=yarn, gpus=0.5; repeats.",
    ),
]
At = Annotated[
    str | None, typer.Option(metavar="VERSION", help="An earlier version: its number or its name.")
]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help='A filter, as "width > 512"; write names as show does.')
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--column", metavar="NAME", help="The image column, where it is not found by itself."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="ROLE=COLUMN", help="The column for another role of a tagger; repeats."),
]
ShardOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--shard-option",
        metavar="KEY=VALUE",
        help="For the shards' store, where it is not the dataset's; repeats.",
    ),
]


def pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Read the KEY=VALUE of an option that repeats."""
    values: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        # What stands there may be a secret, so it is not repeated.
        if not equals or not key:
            raise WrongUsage(f"{option} takes KEY=VALUE; what was given is not of that form")
        if key in values:
            raise WrongUsage(f"{option} was given {key} twice; keep one")
        values[key] = value
    return values


def column_names(text: str | None) -> tuple[str, ...] | None:
    """Read the columns that an option names."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def require_local(file: Path, instead: str) -> None:
    """Raise `WrongUsage` where a file to write would lie on a store; of an address `Path` keeps one slash."""
    if re.match(r"\w{2,}:/", str(file)):
        raise WrongUsage(f"{file} is no path on this machine; {instead}")


def store_options(uri: str, texts: Sequence[str] | None, *, shards: Sequence[str] = ()) -> dict[str, str]:
    """Read the options for a dataset's store: those given, and what the environment's variables say.

    Shards that have no options of their own are reached by them, too.
    """
    given = pairs("--storage-option", texts)
    _require_store("--storage-option", given, [uri, *shards])
    return add_variables(uri, given)


def shard_options(shards: Sequence[str], uri: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Read the options for the shards' store; none where the dataset lies there, too."""
    given = pairs("--shard-option", texts)
    _require_store("--shard-option", given, shards)
    # What a list names is not known here: most stores are reached by s3.
    address = next((each for each in shards if "://" in each), "s3://")
    if not given and address.partition("://")[0] == uri.partition("://")[0]:
        return {}
    return add_variables(address, given)


def _require_store(option: str, given: Mapping[str, str], places: Sequence[str]) -> None:
    if given and not any(map(_may_be_on_a_store, places)):
        raise WrongUsage(f"{option} is for what lies on a store, and {places[0]} does not; leave it out")


def _may_be_on_a_store(place: str) -> bool:
    scheme, colon, _ = place.partition("://")
    return place.startswith("@") or (bool(colon) and scheme.lower() not in ("file", "http", "https"))


def engine(name: str, workers: int | None, options: Sequence[str] | None) -> laketag.Engine:
    """Make the engine that is named."""
    import laketag

    if name not in ENGINES:
        raise WrongUsage(f"there is no engine {name!r}; there is {', '.join(ENGINES)}")
    kind = getattr(laketag, ENGINES[name])
    types = get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]
    values: dict[str, Any] = {} if workers is None else {"workers": workers}
    for given, text in pairs("--engine-option", options).items():
        key, _, inner = given.partition(".")
        is_mapping = get_origin(types.get(key)) is Mapping
        if key not in known or key == "workers" or (inner and not is_mapping):
            others = ", ".join(name for name in known if name != "workers")
            raise WrongUsage(f"engine {name} has no option {given!r}; it has {others}")
        if is_mapping:
            values.setdefault(key, {}).update({inner: text} if inner else _mapping(key, text))
        else:
            values[key] = _value(key, text, types[key])
    made: laketag.Engine = kind(**values)
    return made


def _value(key: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return tuple(filter(None, text.split(",")))
    try:
        return kind(text) if kind in (int, float) else text
    except ValueError as error:
        raise WrongUsage(f"--engine-option {key} is {text!r}, which is not a number") from error


def _mapping(key: str, text: str) -> dict[str, Any]:
    """Read a JSON object, or the file that holds one, as JSON or YAML. What it holds may be a secret."""
    is_file = not text.lstrip().startswith("{")
    try:
        found = _parsed(Path(text).read_text()) if is_file else json.loads(text)
    except OSError as error:
        raise WrongUsage(
            f"--engine-option {key} is neither a JSON object nor a file that can be read"
        ) from error
    except ValueError as error:
        raise WrongUsage(f"--engine-option {key} holds no JSON object, or a broken one") from error
    if not isinstance(found, dict):
        raise WrongUsage(f"--engine-option {key} holds no JSON object, but a {type(found).__name__}")
    return found


def _parsed(text: str) -> Any:
    try:
        yaml: Any = importlib.import_module("yaml")  # it comes with Ray; JSON is YAML, too
    except ImportError:
        return json.loads(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError("no YAML") from error
