"""Who may ask what: a token, the right Host and Origin, and headers that leave a page little power.

The server shows medical pictures. It therefore answers only

- requests that name this server as their ``Host`` (a page elsewhere that points its own name at
  127.0.0.1 is refused: DNS rebinding),
- from this server's own pages (``Origin`` and ``Sec-Fetch-Site``: no other page can send pictures
  or read answers),
- with the token, which the printed address carries once and a cookie afterwards that scripts cannot
  read and other sites cannot send.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import compare_digest
from http.cookies import CookieError, SimpleCookie
from secrets import token_urlsafe
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitrail.errors import InputError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "x-robots-tag": "noindex",
}
_CLOSED = (
    "This page needs the token of the server that shows it.\n"
    "Open the address that `vitrail serve` printed; it holds the token.\n"
)


def is_loopback(host: str) -> bool:
    """Tell whether a name or address reaches this machine alone.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a request must name.

    Attributes:
        hosts: The ``Host`` headers that are answered, with port.
        token: None where anybody on this machine may look.
        cookie: The cookie's name; it holds the port, so that two servers do not share one.
    """

    hosts: frozenset[str]
    token: str | None
    cookie: str


def access(host: str, port: int, *, with_token: bool = True) -> Access:
    """Say who may ask a server on ``host`` and ``port``.

    Raises:
        InputError: If others could reach the server without a token.
    """
    if not with_token and not is_loopback(host):
        raise InputError(
            "--no-token",
            f"with --host {host}",
            "whoever reaches that address would see every picture",
            "leave --no-token out",
        )
    names = {host, "127.0.0.1", "localhost", "[::1]"} if is_loopback(host) else {host}
    return Access(
        hosts=frozenset(f"{name}:{port}" for name in names),
        token=token_urlsafe(24) if with_token else None,
        cookie=f"vitrail_{port}",
    )


class Guard:
    """Lets requests through to the application, or says why not."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(  # noqa: PLR0917 (ASGI's signature)
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Check one request, and add the headers to its answer."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("content-security-policy", POLICY)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        refused: Response | None = self._refused(scope, headers)
        if refused is None and self._brings_token(scope):
            refused = self._welcome(scope)
        elif refused is None and not self._has_token(headers):
            refused = PlainTextResponse(_CLOSED, status_code=401)
        await (refused or self.app)(scope, receive, guarded)

    def _refused(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        """Refuse a request that was not meant for this server, or comes from another page."""
        if headers.get("host", "") not in self.access.hosts:
            return PlainTextResponse("This server has another name.\n", status_code=421)
        origin = headers.get("origin")
        strange = origin is not None and origin.removeprefix("http://") not in self.access.hosts
        sends = scope["method"] not in {"GET", "HEAD"}
        site = headers.get("sec-fetch-site", "none")
        if strange or (sends and site not in {"same-origin", "none"}):
            return PlainTextResponse("Another page may not ask this server.\n", status_code=403)
        return None

    def _brings_token(self, scope: Scope) -> bool:
        """Tell whether the address holds the right token."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and self._is_token(given)

    def _welcome(self, scope: Scope) -> RedirectResponse:
        """Move the token from the address into a cookie."""
        answer = RedirectResponse(scope["path"], status_code=303)
        answer.set_cookie(
            self.access.cookie, self.access.token or "", httponly=True, samesite="strict", path="/"
        )
        return answer

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request may pass."""
        if self.access.token is None:
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        kept = cookies.get(self.access.cookie)
        return kept is not None and self._is_token(kept.value)

    def _is_token(self, given: str) -> bool:
        """Compare in a time that tells nothing."""
        token = self.access.token
        return token is not None and compare_digest(given.encode(), token.encode())
