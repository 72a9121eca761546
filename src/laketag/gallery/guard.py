"""Who may ask a gallery, and what its pages may do: every request and every answer passes here."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """Lets readers in: by the name they call the server by, by a token where there is one."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str | None) -> None:
        """Guard an app.

        Args:
            app: what answers.
            hosts: the names by which it may be called, without ports; any where empty. A page of another
                site that makes its own name point here is kept out by that.
            token: what a reader must show once; none is asked for where None.
        """
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("This gallery is read only.", 405, {"allow": "GET, HEAD"})
        if self._hosts and _host(headers.get("host", "")) not in self._hosts:
            return PlainTextResponse("This gallery does not go by that name.", 421)
        if self._token is None:
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in pairs if name == "token"), None)
        if shown is not None and _is_same(shown, self._token):
            # Out of the address, where it would be read over a shoulder and kept in a history.
            rest = urlencode([pair for pair in pairs if pair[0] != "token"])
            path = "/" + scope["path"].lstrip("/")
            answer = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
            # Not strict: the first look may come by a link in a mail.
            answer.set_cookie(_cookie(scope), self._token, httponly=True, samesite="lax")
            return answer
        if _is_same(cookie_parser(headers.get("cookie", "")).get(_cookie(scope), ""), self._token):
            return None
        return PlainTextResponse("This gallery asks for the token that `laketag serve` printed.", 401)


def _host(header: str) -> str:
    name = header.rpartition(":")[0] if not header.endswith("]") and ":" in header else header
    return name.lower()


def _cookie(scope: Scope) -> str:
    """Name the cookie: a browser gives those of a host to all of its ports, and so to other galleries."""
    _, port = scope.get("server") or ("", "")
    return f"laketag-{port}"


def _is_same(shown: str, token: str) -> bool:
    return hmac.compare_digest(shown.encode(), token.encode())
