from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lance
import pyarrow.compute as pc
import pytest

import laketag
import places
from programs import picture, write_shard
from siglips import encoder, head


@pytest.mark.slow
def test_labels_of_a_program_without_laketag_are_adopted_and_gone_on_with(tmp_path: Path) -> None:
    variables = places.require_ray_data()
    uri, weights = str(tmp_path / "photos.lance"), tmp_path / "head.pth"
    samples = {f"{key:03}": {"jpg": picture(key * 3)} for key in range(40)}
    samples["017"] = {"jpg": b"no image"}
    write_shard(tmp_path / "a.tar", samples)
    laketag.import_([str(tmp_path / "a.tar")], uri, settings=laketag.ImportSettings(rows_per_fragment=15))
    model, weights = encoder(tmp_path / "siglip"), head(weights)

    program = Path(__file__).with_name("fragment_by_fragment.py")
    command = [sys.executable, str(program), uri, str(model), str(weights)]
    subprocess.run(command, check=True, env=variables, capture_output=True, timeout=600)
    before = lance.dataset(uri).to_table(columns=["AESTHETIC_SCORE"])
    tagger = f"aesthetic?encoder={model}&head={weights}"
    laketag.adopt(uri, "AESTHETIC_SCORE", tagger)
    again = laketag.tag(uri, [tagger])

    table = lance.dataset(uri).to_table()
    errors = {row["__key__"]: row["AESTHETIC_ERROR"] for row in table.to_pylist() if row["AESTHETIC_ERROR"]}
    assert list(errors) == ["017"]
    assert table["AESTHETIC_DIGEST"].null_count == 0
    assert again.computed == 0
    scores = table["AESTHETIC_SCORE"].filter(pc.is_null(table["AESTHETIC_ERROR"]))
    was = before["AESTHETIC_SCORE"]
    assert scores.to_pylist() == was.filter(pc.invert(pc.is_nan(was))).to_pylist()
