"""The addresses of a gallery, and what answers each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from laketag.errors import LaketagError
from laketag.gallery import drawing
from laketag.gallery.cached import CachedDataset
from laketag.gallery.choice import Choice, whole
from laketag.gallery.guard import Guard
from laketag.gallery.pages import Pages
from laketag.gallery.pictures import Picture, picture
from laketag.lake.explaining import files_explained
from laketag.lake.presence import KEY, URL

_FOR_GOOD = {"cache-control": "private, max-age=86400, immutable"}
# A picture that cannot be read is a drawing that says so, so that a page shows it in its place.
_BROKEN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 240" width="320" height="240">'
    '<g fill="none" stroke="#8a8f98" stroke-width="6" stroke-linejoin="round">'
    '<path d="M110 80h100v80H110zM110 145l30-28 22 20 20-16 28 24M120 190l80-140"/></g></svg>'
)
_NO_PAGE = "There is no such page, or no such row in this version."


def gallery(cached: CachedDataset, hosts: frozenset[str] = frozenset(), token: str | None = None) -> ASGIApp:
    """Make the app of a gallery.

    Args:
        cached: the dataset on show.
        hosts: the names by which it may be called; any where empty.
        token: what a reader must show; none is asked for where None.
    """
    drawing.prepare()
    answers = _Answers(cached, Pages(cached, secrets.token_hex(4)))
    app = Starlette(
        routes=[
            Route("/", answers.page(answers.grid)),
            Route("/more", answers.page(answers.more)),
            Route("/row/{row}", answers.page(answers.row)),
            Route("/alike/{row}", answers.page(answers.alike)),
            Route("/compare", answers.page(answers.compare)),
            Route("/keys.{form}", answers.page(answers.keys)),
            Route("/thumbnail/{stamp}/{version}/{row}", answers.thumbnail),
            Route("/image/{stamp}/{version}/{row}", answers.image),
            Mount("/static", StaticFiles(packages=[("laketag.gallery", "static")])),
        ],
        exception_handlers={404: lambda request, error: answers.problem(_NO_PAGE, 404)},
    )
    return Guard(app, hosts, token)


@dataclass(frozen=True)
class _Answers:
    """What answers at each address. Starlette runs them in threads."""

    cached: CachedDataset
    pages: Pages

    def page(self, make: Callable[[Request], str | Response | None]) -> Callable[[Request], Response]:
        """Make an answer of what gives a page, or an answer; None is a page that is not there."""

        def answer(request: Request) -> Response:
            try:
                with self._explained():
                    made = make(request)
            except LaketagError as error:
                return self.problem(str(error), 400)
            if made is None:
                return self.problem(_NO_PAGE, 404)
            return made if isinstance(made, Response) else HTMLResponse(made)

        return answer

    def _explained(self) -> AbstractContextManager[None]:
        # A version may be cleaned away while one looks at it.
        return files_explained(self.cached.location.uri)

    def problem(self, message: str, status: int) -> Response:
        """Say in a page what is wrong."""
        return HTMLResponse(self.pages.problem(message), status)

    def grid(self, request: Request) -> str:
        return self.pages.grid(_choice(request), _offset(request))

    def more(self, request: Request) -> str:
        return self.pages.more(_choice(request), _offset(request))

    def row(self, request: Request) -> str | None:
        return self.pages.row(_choice(request), _part(request, "row"))

    def alike(self, request: Request) -> str:
        return self.pages.alike(_choice(request), _part(request, "row"))

    def compare(self, request: Request) -> str:
        asked = request.query_params
        before = whole(asked["with"], "the version to compare with") if asked.get("with") else None
        return self.pages.compare(_choice(request), before, asked.get("column", ""), _offset(request))

    def thumbnail(self, request: Request) -> Response:
        def small() -> Picture | None:
            data = self.cached.thumbnail(_part(request, "version"), _part(request, "row"))
            return None if data is None else Picture(data, "image/webp")

        return self._shown(small)

    def image(self, request: Request) -> Response:
        def large() -> Picture | None:
            view = self.cached.view(_part(request, "version"))
            return picture(view.images([_part(request, "row")])[0])

        return self._shown(large)

    def _shown(self, make: Callable[[], Picture | None]) -> Response:
        try:
            with self._explained():
                found = make()
        except LaketagError:  # of what may pass a browser is to remember nothing
            return Response(_BROKEN, 200, None, "image/svg+xml")
        if found is None:
            return Response(_BROKEN, 200, _FOR_GOOD, "image/svg+xml")
        return Response(found.data, 200, _FOR_GOOD, found.media_type)

    def keys(self, request: Request) -> Response | None:
        form = request.path_params["form"]
        if form not in _FORMS:
            return None
        lines = _lines(self.pages.keys(_choice(request)), form == "jsonl")
        headers = {"content-disposition": f'attachment; filename="keys.{form}"'}
        return StreamingResponse(lines, media_type=_FORMS[form], headers=headers)


_FORMS = {"jsonl": "application/jsonl", "txt": "text/plain; charset=utf-8"}


def _choice(request: Request) -> Choice:
    return Choice.of(request.query_params.multi_items())


def _part(request: Request, name: str) -> int:
    return whole(request.path_params[name], f"the {name}")


def _offset(request: Request) -> int:
    return whole(request.query_params.get("offset") or "0", "the offset")


def _lines(keys: Iterator[tuple[str, str]], is_json: bool) -> Iterator[str]:
    for key, shard in keys:
        yield (json.dumps({KEY: key, URL: shard}, ensure_ascii=False) if is_json else key) + "\n"
