"""Taggers: models that label rows, and the pipeline that runs them. Knows nothing of Lance or engines."""

from laketag.taggers.decorated import FunctionTagger, tagger
from laketag.taggers.digest import input_digest, provenance, tagger_digest
from laketag.taggers.pipeline import Pipeline, predict
from laketag.taggers.protocol import Model, Tagger, digest_column, error_column, label_schema
from laketag.taggers.rows import Labels, Row, Stats
from laketag.taggers.spec import Known, find, known

__all__ = [
    "FunctionTagger",
    "Known",
    "Labels",
    "Model",
    "Pipeline",
    "Row",
    "Stats",
    "Tagger",
    "digest_column",
    "error_column",
    "find",
    "input_digest",
    "known",
    "label_schema",
    "predict",
    "provenance",
    "tagger",
    "tagger_digest",
]
