"""Other programs read the same dataset: the examples of docs/readers.md, which all compute one answer."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import lance
import pytest

from programs import environment
from standalone import QUICK

PAGE = Path(__file__).parent.parent / "docs" / "readers.md"
PACKAGES = {
    "pylance": "lance",
    "DuckDB": "duckdb",
    "LanceDB": "lancedb",
    "Polars": "polars",
    "Daft": "daft_lance",
    "Spark": "pyspark",
}
PROJECT = (PAGE.parent.parent / "pyproject.toml").read_text()
"""What it names `make test` installs; the others are large, and `make test-readers` installs them."""
FEW = "spark.sql.shuffle.partitions=2"  # not two hundred tasks for a few groups
VARIABLES = {
    "PYSPARK_PYTHON": sys.executable,
    "PYSPARK_SUBMIT_ARGS": f"--driver-java-options '{QUICK}' --conf {FEW} pyspark-shell",
    "DAFT_ANALYTICS_ENABLED": "0",
}


def section(reader: str) -> str:
    """Give the example of one reader."""
    found = re.search(rf"^## {reader}\n.*?^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert found is not None, f"no example for {reader}"
    return found[1]


def test_every_section_with_an_example_is_tested():
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.M)

    assert [heading for heading in headings if heading in PACKAGES] == list(PACKAGES)
    assert PAGE.read_text().count("```python") == len(PACKAGES)


@pytest.mark.slow
@pytest.mark.parametrize("reader", PACKAGES)
def test_a_reader_computes_what_pylance_does(reader: str, demo_folder: Path) -> None:
    if importlib.util.find_spec(PACKAGES[reader]) is None:
        is_promised = f'"{PACKAGES[reader]}>=' in PROJECT
        assert not is_promised or "CI" not in os.environ, f"{reader} is not installed"
        pytest.skip(f"{reader} is not installed; `make test` or `make test-readers` installs it")
    program = section(reader) + "\nimport json\nprint(json.dumps(answer))\n"

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=demo_folder,
        env=environment() | VARIABLES,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    rows = lance.dataset(str(demo_folder / "laketag-demo" / "photos.lance")).to_table().to_pylist()
    sharpness: dict[str, list[float]] = {}
    for row in rows:
        if row["SHARPNESS"] is not None:
            sharpness.setdefault(row["edit"], []).append(row["SHARPNESS"])
    assert answer.keys() == sharpness.keys()
    for edit, values in sharpness.items():
        assert math.isclose(answer[edit], sum(values) / len(values), rel_tol=1e-4)
