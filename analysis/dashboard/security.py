"""Who may ask, and which headers every answer carries.

On the loopback address anyone on this machine may read; a page elsewhere that points its own name at
127.0.0.1 is refused by its ``Host`` header. On any other address a token is asked for: it travels in the body
of one form, is compared in constant time, and is answered with a cookie, so that it stands in no URL or log.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy: nothing inline, nothing evaluated, nothing from elsewhere, no frame around us."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Headers of every answer."""

COOKIE = "emsweep"
"""Cookie of someone who gave the token."""

WRONG_TOKEN_S = 0.5
"""Pause after a wrong token: guessing 128 bits is hopeless anyway, this keeps it from costing us."""

MAX_FORM_BYTES = 4_096
"""Longest login form."""


class Guard:
    """ASGI middleware before every page."""

    def __init__(self, app: ASGIApp, *, token: str | None) -> None:
        """``token`` is ``None`` on a loopback address, where none is asked for."""
        self._app = app
        self._token = token
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        answer = self._refusal(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to say instead of the page; ``None`` when the page may answer."""
        host = host_name(Headers(scope=scope).get("host", ""))
        path, method = scope["path"], scope["method"]
        if self._token is None and not is_loopback(host):
            text = (
                f"host {host[:100]!r} is not this machine: open http://127.0.0.1 with the port shown at start"
            )
            return PlainTextResponse(text, status_code=421)
        if method not in ("GET", "HEAD") and not (method == "POST" and path == "/login"):
            return PlainTextResponse("this page only shows things: GET", status_code=405)
        if self._token is None or path == "/login" or path.startswith("/static/"):
            return None
        if self._is_known(Headers(scope=scope).get("cookie", "")):
            return None
        return RedirectResponse("/login", status_code=303)

    def _is_known(self, cookies: str) -> bool:
        try:
            held = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return held is not None and same(held.value, self._session)

    async def login(self, request: Request) -> bool:
        """Read the login form; true when it holds the token."""
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_FORM_BYTES:
                return False
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        return self._token is not None and same(given, self._token)

    def welcome(self) -> Response:
        """Send someone who gave the token to the first page, with the cookie."""
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(COOKIE, self._session, httponly=True, samesite="lax", path="/")
        return answer


def same(a: str, b: str) -> bool:
    """Whether two texts are equal, in a time that does not tell where they part."""
    return hmac.compare_digest(a.encode(), b.encode())


async def pause_after_wrong_token() -> None:
    await asyncio.sleep(WRONG_TOKEN_S)


def host_name(header: str) -> str:
    """The name in a ``Host`` header, without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def new_token() -> str:
    return secrets.token_urlsafe(16)
