"""What the comparisons of `benchmarks/` rest on: trees of processes are counted and killed; habits work."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import bars
import bench
import processes
import pytest
import samples
import trials

PROGRAMS = Path(bench.__file__).with_name("programs")
# A grandchild that no one waits for, as Ray's workers are.
ORPHAN = """
import subprocess, sys, time
child = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", child, sys.argv[1]], check=True)
time.sleep(float(sys.argv[2]))
"""


def test_what_a_program_and_its_child_write_and_read_is_counted_once(tmp_path: Path) -> None:
    inner = f"open({str(tmp_path / 'made')!r}, 'rb').read()"
    program = (
        f"import subprocess, sys; open({str(tmp_path / 'made')!r}, 'wb').write(bytes(9_000_000));"
        f"subprocess.run([sys.executable, '-c', {inner!r}], check=True)"
    )

    nothing = processes.run([sys.executable, "-c", "import subprocess"])
    done = processes.run([sys.executable, "-c", program]).checked()

    assert done.written - nothing.written == pytest.approx(9_000_000, rel=0.01)
    assert 9_000_000 <= done.read - nothing.read < 13_000_000  # the child's Python reads its modules, too


@pytest.mark.slow
def test_what_an_orphan_of_a_program_writes_is_counted(tmp_path: Path) -> None:
    writes = f"import time; open({str(tmp_path / 'made')!r}, 'wb').write(bytes(9_000_000)); time.sleep(60)"

    done = processes.run([sys.executable, "-c", ORPHAN, writes, "3"]).checked()

    assert done.written == pytest.approx(9_000_000, rel=0.01)


@pytest.mark.slow
def test_a_kill_ends_the_orphans_of_a_program(tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    writes = f"import time\nwhile True: open({str(beats)!r}, 'a').write('.'); time.sleep(0.01)"

    done = processes.run([sys.executable, "-c", ORPHAN, writes, "60"], kill_when=beats.exists)
    after = beats.stat().st_size
    time.sleep(0.3)

    assert done.returncode == -9
    assert beats.stat().st_size == after


@pytest.mark.slow
def test_the_habit_keeps_every_member_and_changes_the_json_only(tmp_path: Path) -> None:
    samples.write(tmp_path / "tars", samples.photographs(3), 1)
    program = (
        "import rewrite_tars\n"
        "rewrite_tars.label('tars/000000.tar', 'labelled.tar', 'GLOW', 'glow', '2')\n"
        "print(rewrite_tars.query('labelled.tar', 'number', '0'))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": bench.python_path(PROGRAMS)},
        capture_output=True,
        text=True,
        check=True,
    )

    before, after = (members(tmp_path / name) for name in ("tars/000000.tar", "labelled.tar"))
    assert list(after) == list(before)
    facts = {name: json.loads(body) for name, body in after.items() if name.endswith(".json")}
    assert [("GLOW" in fact, fact.pop("GLOW", 9) > 1) for fact in facts.values()] == [
        (True, True),
        (False, True),
        (True, True),
    ]
    assert facts == {name: json.loads(before[name]) for name in facts}
    assert {name: body for name, body in after.items() if name not in facts} == {
        name: body for name, body in before.items() if name not in facts
    }
    assert done.stdout.strip() == "[('000000001', 1), ('000000002', 2)]"


def members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as file:
        return {member.name: file.extractfile(member).read() for member in file}  # type: ignore[union-attr]


def test_a_run_with_a_size_of_its_own_does_not_replace_the_figures_of_the_long_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "RESULTS", tmp_path)

    for arguments in ([], ["--long"], ["--long", "--rounds", "7"]):
        monkeypatch.setattr(sys, "argv", ["speed.py", *arguments])
        asked = bench.asked(None, rounds=(1, 3))
        bench.finish("speed", {"rounds": asked.rounds}, long=asked.long)

    found = {file.name: json.loads(file.read_text())["figures"]["rounds"] for file in tmp_path.iterdir()}
    assert found == {"speed.json": 3, "speed.short.json": 7}
    assert '"rounds": 1' in capsys.readouterr().out


def test_sides_have_their_turns_in_rounds_with_photographs_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, other = (trials.Peer(name, "laketag_tag") for name in ("one", "other"))
    turns: list[tuple[str, list[bytes]]] = []

    def timed(peer: trials.Peer, _: Path, photographs: list[bytes]) -> trials.Round:
        turns.append((peer.name, photographs))
        taken = float(sum(map(int, photographs))) * (1 if peer is one else 2)
        return {f"{peer.name}: nsfw: {name}": taken for name in (trials.START, trials.SECONDS, trials.CPU)}

    monkeypatch.setattr(trials, "_photographed", timed)
    peers = [one, other]
    rounds = trials.photographed(peers, tmp_path, [b"1", b"2", b"3", b"4", b"5"], rounds=2)
    told = trials.told(peers, rounds, 5)

    assert turns == [
        ("one", [b"1", b"2"]),
        ("other", [b"1", b"2"]),
        ("other", [b"3", b"4", b"5"]),
        ("one", [b"3", b"4", b"5"]),
    ]
    assert told[f"one: nsfw: {trials.SECONDS}"] == 15
    assert told[f"one: nsfw: {trials.START}"] == 7.5
    assert told[f"other: nsfw: {trials.RATE}"] == 5 / 30
    assert trials.ratio(rounds, "one", "other", trials.CPU) == (3 / 6 + 12 / 24) / 2


def test_a_side_that_fails_in_a_round_has_words_for_a_figure() -> None:
    peers = [trials.PEERS[0]]
    rounds = [
        {f"laketag: nsfw: {name}": value for name in (trials.START, trials.SECONDS, trials.CPU)}
        for value in (1.0, "fails (OSError: no room)")
    ]

    assert set(trials.told(peers, rounds, 10).values()) == {"fails (OSError: no room)"}
    assert trials.ratio(rounds, "laketag", "laketag", trials.SECONDS) is None


def test_a_picture_has_a_bar_for_every_figure_and_words_where_there_is_none() -> None:
    panel = bars.Panel("seconds", {"a & b": (2.0, "fails"), "c": (-0.5, 1.0)})

    drawn = ElementTree.fromstring(bars.svg(bars.Chart("a title", ("one", "other"), [panel])))

    name = "{http://www.w3.org/2000/svg}"
    widths = [bar.get("width") for bar in drawn.iter(f"{name}rect")]
    assert widths == ["11", "11", "400.0", "1.0", "1.0", "200.0"]
    texts = [text.text for text in drawn.iter(f"{name}text")]
    assert texts == ["a title", "one", "other", "seconds", "a & b", "2.00", "fails", "c", "0", "1.00"]
