"""What the gallery answers, asked without a browser."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import socket
import sys
from pathlib import Path

import lance
import pyarrow as pa
import pytest

import laketag
from datasets import STORAGES, Storage
from datasets import make as make_dataset
from galleries import EVIL_KEY, ROWS, Ask, asked, served
from laketag.gallery import cached


def test_the_first_page_shows_rows_and_filters(ask: Ask) -> None:
    answer, text = ask("/")

    assert answer.status == 200
    assert text.count('class="card"') == 60
    assert 'name="min.SHARPNESS"' in text
    assert 'name="tag.kind"' in text


def test_pages_together_show_every_row_once_in_order(ask: Ask) -> None:
    seen = []
    for offset in range(0, ROWS, 60):
        _, text = ask(f"/more?sort=width+desc&offset={offset}")
        seen += re.findall(r"<bdi>photo(\d+)", text)

    assert [int(number) for number in seen] == [n for n in reversed(range(ROWS)) if n != 3]


def test_a_row_far_down_has_its_neighbours_too(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached, "FIRST", 20)
    found = []
    with served(photos) as address:
        _, text = asked(address, "/more?sort=width&offset=0")
        for place in (5, 19, 20, 50):
            [link, *_] = re.findall(r'href="(/row/[^"]*)"', text.split('class="card"')[place])
            _, page = asked(address, html.unescape(link))
            found.append(re.findall(r"([\d,]+) of 150", page))
            assert 'rel="next"' in page

    assert found == [["5"], ["19"], ["20"], ["50"]]


def test_a_filter_a_bound_and_a_tag_go_together(ask: Ask) -> None:
    _, text = ask("/?where=width+%3C+500&min.width=200&tag.kind=odd")

    assert '<strong class="num">15</strong>' in text


def test_the_export_command_says_what_is_seen(ask: Ask, photos: str) -> None:
    _, text = ask("/?where=txt+like+%27%25%27%27s%25%27+or+width+%3D+10&tag.kind=odd&at=1")
    [command] = re.findall(r'id="command" readonly value="([^"]*)"', text)

    where = "(txt like '%''s%' or width = 10) and kind = 'odd'"
    words = ["laketag", "export", photos, "selection/{000000..}.tar", "--where", where, "--at", "1"]
    assert shlex.split(html.unescape(command)) == words


def test_bad_sql_is_said_in_the_page_and_stays_in_its_box(ask: Ask) -> None:
    answer, text = ask("/?where=wdith+%3E+%3Cb%3E")

    assert answer.status == 200
    assert 'role="alert"' in text
    assert 'value="wdith &gt; &lt;b&gt;"' in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/row/999999", 404),
        ("/nothing", 404),
        ("/?at=77", 400),
        ("/?at=x", 400),
        ("/?offset=-1", 400),
        ("/?min.width=x", 400),
        ("/row/99999999999999999999999", 400),
        ("/image/x/99999999999999999999999/1", 200),
        ("/thumbnail/x/1/999999999999999999", 200),
        ("/keys.html", 404),
        ("/row/../../etc/passwd", 404),
        ("/static/../pages.py", 404),
        ("/static/%2e%2e/pages.py", 404),
        ("/keys.txt?where=(", 400),
        ("/compare?with=x", 400),
    ],
)
def test_a_wrong_address_is_a_page_that_says_so(ask: Ask, path: str, status: int) -> None:
    answer, text = ask(path)

    assert answer.status == status
    assert "Traceback" not in text
    assert "import annotations" not in text


def test_everything_is_escaped_and_the_policy_forbids_scripts_of_others(ask: Ask) -> None:
    for path in ("/", "/row/3", "/alike/3", "/compare"):
        answer, text = ask(path)

        assert answer.status == 200
        assert "<script>window" not in text
        assert "onerror='" not in text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy


def test_a_key_with_dots_is_a_text_like_any_other(ask: Ask) -> None:
    _, text = ask("/row/3")

    assert f"<bdi>{EVIL_KEY}</bdi>" in text


def test_an_image_is_given_as_it_lies_in_the_dataset(address: str, photos: str) -> None:
    [source] = re.findall(r'href="(/image/[^"]+)"', asked(address, "/row/7")[1])
    answer, _ = asked(address, source)
    original = lance.dataset(photos).take([7], columns=["jpg"])["jpg"][0].as_py()

    assert answer.headers["content-type"] == "image/jpeg"
    assert int(answer.headers["content-length"]) == len(original)
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_damaged_image_is_a_drawing_that_says_so(ask: Ask) -> None:
    _, text = ask("/row/4")
    [source] = re.findall(r'href="(/image/[^"]+)"', text)

    assert "not an image" in text
    assert ask(source)[0].headers["content-type"] == "image/svg+xml"


def test_keys_are_those_of_the_choice_in_its_order(ask: Ask, photos: str) -> None:
    answer, text = ask("/keys.txt?where=width+%3C+50&sort=width+desc")
    lines = [json.loads(line) for line in ask("/keys.jsonl?where=width+%3C+20")[1].splitlines()]

    assert answer.headers["content-disposition"] == 'attachment; filename="keys.txt"'
    assert text.splitlines() == ["photo0004", EVIL_KEY, "photo0002", "photo0001", "photo0000"]
    assert [line["__key__"] for line in lines] == ["photo0000", "photo0001"]
    assert all(line["__url__"].endswith("photos.tar") for line in lines)


def test_nothing_can_be_written(address: str) -> None:
    assert {asked(address, "/", method)[0].status for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_a_site_that_gives_itself_our_address_is_kept_out(ask: Ask) -> None:
    assert ask("/", Host="evil.example:80")[0].status == 421


def test_a_token_is_asked_for_and_leaves_the_address(photos: str) -> None:
    with served(photos, token="letmein", hosts=frozenset()) as address:
        refused, text = asked(address, "/row/1")
        wrong, _ = asked(address, "/?token=letmeout")
        let_in, _ = asked(address, "/?token=letmein&sort=width")
        cookie = let_in.headers["set-cookie"].partition(";")[0]
        inside, _ = asked(address, "/", Cookie=cookie)

    assert (refused.status, wrong.status, let_in.status, inside.status) == (401, 401, 303, 200)
    assert "photo" not in text
    assert let_in.headers["location"] == "/?sort=width"
    assert "httponly" in let_in.headers["set-cookie"].lower()


def test_cookies_of_others_on_the_same_host_lock_nobody_out(photos: str) -> None:
    jar = {"theme": '{"dark": true}'}  # a browser keeps cookies by host, whatever the port
    with served(photos, "one", frozenset()) as first, served(photos, "two", frozenset()) as second:
        for address, token in ((first, "one"), (second, "two")):
            let_in, _ = asked(address, f"/?token={token}")
            name, _, value = let_in.headers["set-cookie"].partition(";")[0].partition("=")
            jar[name] = value
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())

        assert [asked(address, "/", Cookie=cookies)[0].status for address in (first, second)] == [200, 200]


@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_rows_of_every_storage_are_shown(storage: Storage, tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    make_dataset(Path(uri), 30, storage=storage, rows_per_fragment=10)
    lance.dataset(uri).delete("number = 5")

    with served(uri) as address:
        _, text = asked(address, "/?sort=number+desc")
        rows = re.findall(r'href="(/row/\d+\?[^"]*)"', text)
        _, first = asked(address, rows[0].replace("&amp;", "&"))

    assert len(rows) == 29
    assert "<dd><bdi>29</bdi></dd>" in first


def test_labels_that_moved_are_shown_with_both_values(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    make_dataset(Path(uri), 30)
    laketag.add_column(uri, "KIND", "case when number < 10 then 'low' else 'high' end")
    before = lance.dataset(uri).version
    laketag.add_column(uri, "KIND", "case when number < 12 then 'low' else 'high' end", replace=True)

    with served(uri) as address:
        answer, text = asked(address, f"/compare?with={before}")

    assert answer.status == 200
    assert text.count('class="card"') == 2
    assert re.search(r"<td>high</td><td>low</td><td[^>]*>2</td>", text)


def test_a_column_of_another_type_in_the_other_version_is_compared(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    make_dataset(Path(uri), 30)
    laketag.add_column(uri, "KIND", "case when number < 10 then 'low' else 'high' end")
    words = lance.dataset(uri).version
    laketag.drop_column(uri, "KIND")
    laketag.add_column(uri, "KIND", "number * 2")
    numbers = lance.dataset(uri).version

    with served(uri) as address:
        for before, after in ((words, numbers), (numbers, words)):
            answer, text = asked(address, f"/compare?with={before}&at={after}&column=KIND")
            assert answer.status == 200
            assert re.search(r'Rows whose value changed <span class="by num">30</span>', text)


def test_a_version_that_is_cleaned_away_while_it_is_looked_at_is_a_page_that_says_so(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    make_dataset(Path(uri), 30)
    with served(uri) as address:
        _, text = asked(address, "/?at=1")
        [picture, *_] = re.findall(r'src="(/thumbnail/[^"]*)"', text)
        shutil.rmtree(Path(uri, "data"))

        answer, text = asked(address, "/?at=1&sort=number")
        image, drawing = asked(address, picture)

    assert (answer.status, "cannot be read" in text) == (400, True)
    assert drawing.startswith("<svg")
    assert image.headers["cache-control"] == "no-store"


def test_a_vector_says_which_images_are_alike(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uri = str(tmp_path / "made.lance")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([float(n // 2 + n % 2) for n in range(16)]), 2)
    images = pa.array([b"no image"] * 8, pa.binary())
    lance.write_dataset(pa.table({"jpg": images, "vector": vectors}), uri)

    with served(uri) as address:
        _, text = asked(address, "/alike/3")

    assert re.findall(r"<bdi>row (\d)</bdi>", text)[:2] in (["2", "4"], ["4", "2"])
    assert "<bdi>row 3</bdi>" not in text
    assert re.findall(r'class="mark">(.*?)</span>\n', text)[0] == '<span class="said">distance 2</span>'
    # What Lance logs lands in the terminal of whoever serves.
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_dataset_without_images_or_labels_is_shown(tmp_path: Path) -> None:
    uri = str(tmp_path / "made.lance")
    lance.write_dataset(
        pa.table({"name": ["a", None], "flag": [True, None], "nan": [float("nan"), 1.0]}), uri
    )

    with served(uri) as address:
        statuses = [asked(address, path)[0].status for path in ("/", "/row/0", "/?tag.flag=true", "/compare")]
        _, text = asked(address, "/?tag.flag=true")

    assert statuses == [200] * 4
    assert '<strong class="num">1</strong>' in text


def test_a_missing_extra_is_one_line(photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(laketag.errors.MissingExtra, match=r"uvicorn.*pip install 'laketag\[serve\]'"):
        laketag.serve(photos)


def test_a_port_that_is_taken_is_one_line(photos: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(laketag.LaketagError, match=f"port {port}.*--port") as caught:
            laketag.serve(photos, address=laketag.Address(port=port))

    assert "\n" not in str(caught.value)
