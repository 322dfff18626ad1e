"""The server of the labeling page: loopback only, a random key, no path from a request.

Every request needs the key (in the address once, then as a cookie), a Host header that
names this machine itself (another name would be a foreign site's, resolved to 127.0.0.1),
and, where it changes something, JSON from the page's own origin. Files of the page are a
fixed table; videos, frames and steps are numbers or words that are checked against what was
asked for.
"""

import hmac
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, quote, urlsplit

from claus.annotators.journal import annotator_name
from claus.utils.runtime import UserError, parse_json

HOST = "127.0.0.1"
LOCAL = ("127.0.0.1", "localhost", "[::1]")
MOST_BODY = 2 << 20  # bytes of a step: a mask of polygons has some thousand corners at most
PAGE = Path(__file__).resolve().parent
FILES = {
    "/page.css": ("page.css", "text/css"),
    "/main.js": ("main.js", "text/javascript"),
    "/stage.js": ("stage.js", "text/javascript"),
    "/strip.js": ("strip.js", "text/javascript"),
    "/panels.js": ("panels.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/shapes.js": ("shapes.js", "text/javascript"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class App(Protocol):
    """What the server asks: steps/label.py has it."""

    def view(self, who: str, desk: int) -> dict: ...

    def poll(self, who: str, desk: int) -> dict: ...

    def picture(self, desk: int, video: int, frame: int, size: int) -> bytes: ...

    def seconds(self, desk: int, video: int) -> dict: ...

    def act(self, who: str, desk: int, entry: dict) -> dict: ...


@dataclass(frozen=True)
class Answer:
    """What goes back: a body, what it is, and the status."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is not answered: its status and why."""

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status = status


class PageServer(ThreadingHTTPServer):
    """Serves an App on 127.0.0.1. key: what a request has to know. user: for whom a page is
    that does not say ?who=.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, app: App, key: str, user: str, port: int = 0):
        self.app, self.key, self.user = app, key, user
        super().__init__((HOST, port), Handler)

    @property
    def port(self) -> int:
        return self.server_address[1]

    @property
    def cookie(self) -> str:
        """Name of the cookie; other ports of this machine have their own."""
        return f"claus_{self.port}"

    def address(self, who: str | None = None) -> str:
        """What a person opens."""
        person = f"&who={quote(who)}" if who else ""
        return f"http://{HOST}:{self.port}/?key={self.key}{person}"

    def handle_error(self, request, client_address):
        """A browser that went away in the middle is no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "claus", ""
    timeout = 60  # seconds that a silent connection is kept

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._post)

    def log_message(self, *words):
        """Nothing: the addresses have the key in them."""

    def _answer(self, make: Callable[[], Answer]):
        try:
            self._check_host()
            answer = make()
        except Refused as error:
            self.close_connection = True  # its body may be unread
            answer = _error(error.status, str(error))
        except UserError as error:
            answer = _error(422, str(error))
        except Exception as error:  # the page says so, and goes on
            answer = _error(500, f"{type(error).__name__}: {error}")
        try:
            self.send_response(answer.status)
            self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True

    # --------------------------------------------------------------------------------- doors

    def _check_host(self):
        """Refuse a Host header that does not name this machine itself."""
        host = self.headers.get_all("Host") or [""]
        name = re.sub(r":\d{1,5}$", "", host[0].lower())
        if len(host) != 1 or name not in LOCAL:
            raise Refused(403, "open the page by the address that label.py printed")

    def _has_key(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(
            given.encode("utf-8", "replace"), self.server.key.encode()
        )

    def _check_key(self):
        """Refuse a request that does not know the key."""
        cookies = SimpleCookie()
        try:
            cookies.load(self.headers.get("Cookie", ""))
        except CookieError:
            cookies = {}
        morsel = cookies.get(self.server.cookie)
        if not self._has_key(morsel.value if morsel else None):
            raise Refused(403, "open the page by the address that label.py printed")

    def _check_origin(self):
        """Refuse what another site sends."""
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{self.headers['Host'].lower()}":
            raise Refused(403, "not from this page")
        if self.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "not from this page")

    # -------------------------------------------------------------------------------- routes

    def _get(self):
        address = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/" and "key" in asked:
            return self._let_in(asked)
        self._check_key()
        if address.path == "/" and "who" not in asked:
            return self._named(self.server.user)
        if address.path == "/":
            self._who(asked)
            return Answer((PAGE / "index.html").read_bytes(), "text/html")
        if address.path in FILES:
            name, kind = FILES[address.path]
            return Answer((PAGE / name).read_bytes(), kind)
        if address.path == "/picture":
            numbers = [_number(asked, name) for name in ("d", "v", "k", "s")]
            return Answer(self.server.app.picture(*numbers), "image/jpeg")
        self._check_origin()
        if address.path == "/api/seconds":
            return _json(self.server.app.seconds(_number(asked, "d"), _number(asked, "v")))
        if address.path == "/api/view":
            return _json(self.server.app.view(self._who(asked), _number(asked, "d")))
        if address.path == "/api/poll":
            return _json(self.server.app.poll(self._who(asked), _number(asked, "d")))
        raise Refused(404, "there is no such page")

    def _let_in(self, asked):
        """Exchange the key in the address for a cookie, so that it stays in no history."""
        if not self._has_key(asked["key"]):
            raise Refused(403, "open the page by the address that label.py printed")
        cookie = f"{self.server.cookie}={self.server.key}; Path=/; HttpOnly; SameSite=Strict"
        return self._named(self._who(asked), ("Set-Cookie", cookie))

    def _named(self, who, *headers):
        """Lead to the page of an annotator."""
        headers += (("Location", "/?who=" + quote(who)),)
        return Answer(b"", "text/plain", 303, headers)

    def _who(self, asked):
        return annotator_name(asked.get("who") or self.server.user)

    def _post(self):
        self._check_key()
        self._check_origin()
        if urlsplit(self.path).path != "/api/act":
            raise Refused(404, "there is no such page")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        length = self.headers.get("Content-Length", "")
        if kind != "application/json" or not re.fullmatch(r"\d{1,10}", length):
            raise Refused(400, "not JSON")
        if int(length) > MOST_BODY:
            raise Refused(413, f"more than {MOST_BODY} bytes")
        try:
            entry = parse_json(self.rfile.read(int(length)))
        except ValueError as error:
            raise Refused(400, "not JSON") from error
        if not isinstance(entry, dict):
            raise Refused(400, "not an object")
        who, desk = annotator_name(entry.get("who") or ""), entry.get("d")
        if desk not in (0, 1) or isinstance(desk, bool):
            raise Refused(400, "there is no such desk")
        return _json(self.server.app.act(who, desk, entry))


def _json(content):
    text = json.dumps(content, ensure_ascii=False, allow_nan=False)
    return Answer(text.encode("utf-8", "replace"))


def _error(status, why):
    return Answer(json.dumps({"error": why}).encode(), status=status)


def _number(asked, name):
    """A whole number in an address; Refused otherwise."""
    if not re.fullmatch(r"\d{1,9}", asked.get(name, ""), re.ASCII):
        raise Refused(400, f"{name} is no number")
    return int(asked[name])


class Background:
    """A server in a thread of its own, for tests."""

    def __init__(self, server: PageServer):
        self.server = server
        self.thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
