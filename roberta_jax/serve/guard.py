"""Which requests are let in, and the headers of every response.

A page of another site, open in the same browser, must neither read answers nor let the model work.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing from elsewhere, no script or style in the HTML, and no text of ours parsed as HTML.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses requests for other hosts and from other sites, and adds `HEADERS`."""

    def __init__(self, app: ASGIApp, *, host: str) -> None:
        """The app that is guarded, and the host that it listens on."""
        self._app = app
        self._every_interface = _is_unspecified(host)
        names = [*_LOCAL_HOSTS, socket.gethostname() if self._every_interface else host]
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or lets the app answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return refused(
                f"This server is not known as {host!r}: open it by the address that it printed.",
                400,
            )
        if method not in ("GET", "HEAD"):
            origin = headers.get("origin")
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or (
                origin is not None and origin.split("://")[-1].lower() != host.lower()
            ):
                return refused("The request comes from a page of another site.", 403)
            # A form of another site cannot send this type without asking first.
            if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
                return refused("The request must be application/json.", 415)
        return None

    def _is_ours(self, host: str) -> bool:
        # A name can be made to point at this machine by whoever owns it (DNS rebinding); an
        # address cannot.
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or (self._every_interface and _is_address(name))


def refused(reason: str, status_code: int) -> JSONResponse:
    """What a request gets that is not answered."""
    return JSONResponse({"error": reason}, status_code)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_unspecified(host: str) -> bool:
    return host == "" or (_is_address(host) and ipaddress.ip_address(host).is_unspecified)
