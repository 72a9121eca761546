"""Fixtures for all: where the tests' own modules are found, also by workers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
