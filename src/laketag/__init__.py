"""Model tagging on an AI data lake: WebDataset shards in, label columns on a Lance dataset out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from laketag import errors
from laketag.errors import LaketagError
from laketag.version import VERSION

if TYPE_CHECKING:
    from laketag.engines.local import Local
    from laketag.engines.protocol import Engine, Progress, Workers
    from laketag.engines.ray import Ray
    from laketag.engines.spark import Spark
    from laketag.gallery.reporting import ReportMade, report
    from laketag.gallery.serving import Address, serve
    from laketag.lake.answering import watch_store
    from laketag.lake.cleaning import CleanReport, Kept, Leftover, clean
    from laketag.lake.differing import ColumnChange, ColumnNamed, DiffReport, LabelChange, LabelsMoved, diff
    from laketag.lake.evolving import EvolveReport, add_column, cast_column, drop_column, rename_column
    from laketag.lake.history import RestoreReport, VersionShown, VersionsReport, restore, versions
    from laketag.lake.indexing import IndexReport, index
    from laketag.lake.query import Selection, query
    from laketag.lake.showing import ColumnShown, JobShown, ShowReport, show
    from laketag.shards.exported import ExportReport
    from laketag.shards.exporting import export
    from laketag.shards.importing import import_
    from laketag.shards.report import ImportReport
    from laketag.shards.settings import ExportSettings, ImportSettings
    from laketag.taggers.decorated import tagger
    from laketag.taggers.pipeline import predict
    from laketag.taggers.protocol import Model, Tagger
    from laketag.taggers.spec import Known
    from laketag.taggers.spec import find as find_tagger
    from laketag.taggers.spec import known as known_taggers
    from laketag.tagging.adopting import AdoptReport, adopt
    from laketag.tagging.report import ErrorCount, Estimate, TagReport
    from laketag.tagging.run import tag
    from laketag.tagging.settings import Rows, TagSettings
    from laketag.tagging.speed import Speed
    from laketag.training.torch_rows import torch_dataset
    from laketag.walkthrough import DemoReport, demo

__version__ = VERSION

__all__ = [
    "Address",
    "AdoptReport",
    "CleanReport",
    "ColumnChange",
    "ColumnNamed",
    "ColumnShown",
    "DemoReport",
    "DiffReport",
    "Engine",
    "ErrorCount",
    "Estimate",
    "EvolveReport",
    "ExportReport",
    "ExportSettings",
    "ImportReport",
    "ImportSettings",
    "IndexReport",
    "JobShown",
    "Kept",
    "Known",
    "LabelChange",
    "LabelsMoved",
    "LaketagError",
    "Leftover",
    "Local",
    "Model",
    "Progress",
    "Ray",
    "ReportMade",
    "RestoreReport",
    "Rows",
    "Selection",
    "ShowReport",
    "Spark",
    "Speed",
    "TagReport",
    "TagSettings",
    "Tagger",
    "VersionShown",
    "VersionsReport",
    "Workers",
    "add_column",
    "adopt",
    "cast_column",
    "clean",
    "demo",
    "diff",
    "drop_column",
    "errors",
    "export",
    "find_tagger",
    "import_",
    "index",
    "known_taggers",
    "predict",
    "query",
    "rename_column",
    "report",
    "restore",
    "serve",
    "show",
    "tag",
    "tagger",
    "torch_dataset",
    "versions",
    "watch_store",
]

# Importing laketag costs milliseconds: Lance, Arrow and the models come with the name that needs them.
_HOMES = {
    "laketag.engines.local": ("Local",),
    "laketag.engines.protocol": ("Engine", "Progress", "Workers"),
    "laketag.engines.ray": ("Ray",),
    "laketag.engines.spark": ("Spark",),
    "laketag.gallery.reporting": ("ReportMade", "report"),
    "laketag.gallery.serving": ("Address", "serve"),
    "laketag.lake.answering": ("watch_store",),
    "laketag.lake.cleaning": ("CleanReport", "Kept", "Leftover", "clean"),
    "laketag.lake.differing": (
        "ColumnChange",
        "ColumnNamed",
        "DiffReport",
        "LabelChange",
        "LabelsMoved",
        "diff",
    ),
    "laketag.tagging.adopting": ("AdoptReport", "adopt"),
    "laketag.lake.evolving": ("EvolveReport", "add_column", "cast_column", "drop_column", "rename_column"),
    "laketag.lake.history": ("RestoreReport", "VersionShown", "VersionsReport", "restore", "versions"),
    "laketag.lake.indexing": ("IndexReport", "index"),
    "laketag.lake.query": ("Selection", "query"),
    "laketag.lake.showing": ("ColumnShown", "JobShown", "ShowReport", "show"),
    "laketag.shards.exported": ("ExportReport",),
    "laketag.shards.exporting": ("export",),
    "laketag.shards.importing": ("import_",),
    "laketag.shards.report": ("ImportReport",),
    "laketag.shards.settings": ("ExportSettings", "ImportSettings"),
    "laketag.taggers.decorated": ("tagger",),
    "laketag.taggers.pipeline": ("predict",),
    "laketag.taggers.protocol": ("Model", "Tagger"),
    "laketag.taggers.spec": ("Known", "find_tagger", "known_taggers"),
    "laketag.tagging.run": ("tag",),
    "laketag.tagging.report": ("ErrorCount", "Estimate", "TagReport"),
    "laketag.tagging.settings": ("Rows", "TagSettings"),
    "laketag.tagging.speed": ("Speed",),
    "laketag.training.torch_rows": ("torch_dataset",),
    "laketag.walkthrough": ("DemoReport", "demo"),
}
# Inside their package these go by shorter names.
_THERE = {"find_tagger": "find", "known_taggers": "known"}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'laketag' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), _THERE.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
