"""The addresses of a gallery, and what answers each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from laketag.errors import DatasetError, LaketagError
from laketag.gallery.choice import Choice, whole
from laketag.gallery.guard import Guard
from laketag.gallery.hanging import Hanging
from laketag.gallery.pages import Pages
from laketag.gallery.pictures import picture

_FOR_GOOD = {"cache-control": "private, max-age=86400, immutable"}
# A picture that cannot be read is a drawing that says so, so that a page shows it in its place.
_BROKEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240" width="320" height="240">'
    '<g fill="none" stroke="#8a8f98" stroke-width="6" stroke-linejoin="round">'
    '<path d="M110 80h100v80H110zM110 145l30-28 22 20 20-16 28 24M120 190l80-140"/></g></svg>'
)


def gallery(hanging: Hanging, hosts: frozenset[str] = frozenset(), token: str | None = None) -> ASGIApp:
    """Make the app of a gallery.

    Args:
        hanging: the dataset on show.
        hosts: the names by which it may be called; any where empty.
        token: what a reader must show; none is asked for where None.
    """
    pages = Pages(hanging, secrets.token_hex(4))

    def page(make: Callable[[Request], str | None]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            try:
                made = make(request)
            except LaketagError as error:
                return HTMLResponse(pages.problem(str(error)), 400)
            return HTMLResponse(made) if made is not None else HTMLResponse(pages.problem(_NO_ROW), 404)

        return answer

    def compare(request: Request) -> str:
        asked = request.query_params
        before = whole(asked["with"], "the version to compare with") if asked.get("with") else None
        return pages.compare(_choice(request), before, asked.get("column", ""), _offset(request))

    def thumbnail(request: Request) -> Response:
        version, row = request.path_params["version"], request.path_params["row"]
        return _shown(hanging.thumbnail(version, row), "image/webp")

    def image(request: Request) -> Response:
        view = hanging.view(request.path_params["version"])
        found = picture(view.images([request.path_params["row"]])[0])
        return _shown(found.data if found else None, found.media_type if found else "")

    def keys(request: Request) -> Response:
        is_json = request.path_params["form"] == "jsonl"
        try:
            lines = _lines(pages.keys(_choice(request)), is_json)
        except LaketagError as error:
            return HTMLResponse(pages.problem(str(error)), 400)
        name = f"keys.{'jsonl' if is_json else 'txt'}"
        kind = "application/jsonl" if is_json else "text/plain; charset=utf-8"
        return StreamingResponse(
            lines, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'}
        )

    app = Starlette(
        routes=[
            Route("/", page(lambda request: pages.grid(_choice(request), _offset(request)))),
            Route("/more", page(lambda request: pages.more(_choice(request), _offset(request)))),
            Route("/row/{row:int}", page(lambda r: pages.row(_choice(r), r.path_params["row"]))),
            Route("/alike/{row:int}", page(lambda r: pages.alike(_choice(r), r.path_params["row"]))),
            Route("/compare", page(compare)),
            Route("/keys.{form:str}", keys),
            Route("/thumbnail/{stamp}/{version:int}/{row:int}", _pictured(thumbnail)),
            Route("/image/{stamp}/{version:int}/{row:int}", _pictured(image)),
            Mount("/static", StaticFiles(packages=[("laketag.gallery", "static")])),
        ],
        exception_handlers={404: lambda request, error: HTMLResponse(pages.problem(_NO_PAGE), 404)},
    )
    return Guard(app, hosts, token)


_NO_ROW = "There is no such row in this version."
_NO_PAGE = "There is no such page."


def _pictured(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    def shown(request: Request) -> Response:
        try:
            return answer(request)
        except DatasetError:
            return _shown(None, "")

    return shown


def _shown(data: bytes | None, media_type: str) -> Response:
    if data is None:
        return Response(_BROKEN, 200, _FOR_GOOD, "image/svg+xml")
    return Response(data, 200, _FOR_GOOD, media_type)


def _choice(request: Request) -> Choice:
    return Choice.of(request.query_params.multi_items())


def _offset(request: Request) -> int:
    return whole(request.query_params.get("offset") or "0", "the offset")


def _lines(keys: Iterator[tuple[str, str]], is_json: bool) -> Iterator[str]:
    for key, shard in keys:
        yield (json.dumps({"__key__": key, "__url__": shard}, ensure_ascii=False) if is_json else key) + "\n"
