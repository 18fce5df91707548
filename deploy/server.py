# SPDX-License-Identifier: Apache-2.0
"""The local page and the images that it sends: a small web server of the standard library.

It reads no file and keeps no image: everything it sends is the page, made at the start, and the
answers of the network. It takes requests of its own page alone (see `deploy.web`).
"""

from __future__ import annotations

import contextlib
import json
import re
import selectors
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from datasets.decode import decode_image
from datasets.headers import header_of, size_text
from deploy.answer_bytes import answer_bytes
from deploy.line import LeftLine, Line, LineClosed, LineFull
from deploy.predictor import Predictor
from deploy.web import PLAIN_HEADERS, is_own_host, is_own_origin
from runtime.errors import UserError
from runtime.limits import counted

PATIENCE = 60  # seconds without a byte, after which a connection is closed
LENGTH_DIGITS = 18  # of a Content-Length
RETRY_AFTER = 10  # seconds after which a full line is worth another try
BACKLOG = 128  # connections that the system may hold until they are accepted
DRAINED, CHUNK = 64 << 20, 1 << 16  # bytes of a refused upload that are read, at a time
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
TICKET = re.compile(r"[\w-]{1,64}")
IMAGE_NAME = Path("this file")  # what messages call an image, whose name nobody sends
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """max_bytes of a file, max_pixels of an image, and how many may wait."""

    max_bytes: int
    max_pixels: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What all requests share: the predictor, the finished page, the limits and the line."""

    predictor: Predictor
    page: bytes
    policy: str
    names: frozenset[str]
    limits: Limits
    line: Line
    say: Callable[[str], object]


class Refused(Exception):
    """A request that gets no prediction: a status and one line."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status, self.line, self.headers = status, line, dict(headers or {})


class PageServer(ThreadingHTTPServer):
    """One thread per connection; the network itself is asked by one after the other."""

    daemon_threads = True  # an idle connection does not keep the program alive
    request_queue_size = BACKLOG

    def __init__(self, host: str, port: int, shop: Shop) -> None:
        self.shop = shop
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__((str(address[0]), port), PageHandler)

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        host, port = self.socket.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{port}/"

    def handle_error(self, request: Any, client_address: object) -> None:
        """A connection that breaks off is no event; everything else is a fault of this program."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class PageHandler(BaseHTTPRequestHandler):
    """`GET /` the page, `GET /line` the place of a ticket, `POST /predict` an image."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hiseg", ""
    timeout = PATIENCE
    server: PageServer
    unread = 0  # bytes of an upload that are still on their way

    def do_GET(self) -> None:  # noqa: N802, the name is that of the standard library
        """The page, or how many are in front of a ticket."""
        self._answer(self._get)

    def do_POST(self) -> None:  # noqa: N802
        """A prediction."""
        self._answer(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses by itself, in the same form as all else."""
        self.close_connection = True
        self._send_error(int(code), message or "this request is not understood", {})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: one line per prediction is printed elsewhere."""

    def _answer(self, work: Callable[[], None]) -> None:
        self.unread = self._announced()
        try:
            self._check_sender()
            work()
        except Refused as refused:
            self._send_error(refused.status, refused.line, refused.headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:
            traceback.print_exc()
            self._send_error(500, "the server failed on this request; its output says why", {})

    def _announced(self) -> int:
        """The length of what follows the headers."""
        text = self.headers.get("Content-Length", "0")
        is_number = text.isascii() and text.isdecimal() and len(text) <= LENGTH_DIGITS
        return int(text) if is_number else 0

    def _check_sender(self) -> None:
        """Refuse what does not come from the own page: another site, or a name that is not ours."""
        host = self.headers.get("Host")
        if not is_own_host(host, self.server.shop.names):
            raise Refused(403, f"this server is not {host}; ask for it by its address")
        if not is_own_origin(self.headers.get("Origin"), host):
            raise Refused(403, "another site may not send images to this server")

    def _get(self) -> None:
        shop, url = self.server.shop, urlsplit(self.path)
        self._drain()
        if url.path == "/":
            policy = {"Content-Security-Policy": shop.policy}
            self._send(200, "text/html; charset=utf-8", shop.page, policy)
        elif url.path == "/line":
            ticket = parse_qs(url.query).get("ticket", [""])[0]
            self._send_json(200, {"before": shop.line.place(ticket)})
        else:
            raise Refused(404, "there is nothing but the page: /")

    def _post(self) -> None:
        shop = self.server.shop
        if urlsplit(self.path).path != "/predict":
            raise Refused(404, "images are sent to /predict")
        try:
            with shop.line.entered():
                content = self._predicted(self._uploaded(), self._ticket())
        except LineFull:
            waiting = f"a queue of {counted(shop.limits.waiting, 'image')} is full; try again soon"
            raise Refused(503, waiting, {"Retry-After": str(RETRY_AFTER)}) from None
        except LineClosed:
            raise Refused(503, "the server is being stopped") from None
        except LeftLine:
            raise ConnectionAbortedError from None
        self._send(200, "application/octet-stream", content, {})

    def _ticket(self) -> str:
        found = self.headers.get("X-Ticket", "")
        return found if TICKET.fullmatch(found) else ""

    def _uploaded(self) -> bytes:
        """The image file that was sent, if its header says that it may be decoded."""
        limits = self.server.shop.limits
        if not self.headers.get("Content-Length", "").isdecimal():
            raise Refused(411, "the length of the file is missing (Content-Length)")
        if self.unread > limits.max_bytes:
            sent, most = self.unread / MILLION, limits.max_bytes / MILLION
            raise Refused(413, f"this file has {sent:.1f} MB, at most {most:g} MB are taken")
        data = self.rfile.read(self.unread)
        if len(data) < self.unread:
            raise ConnectionAbortedError
        self.unread = 0
        try:
            header = header_of(data, IMAGE_NAME, "image")
        except UserError as error:
            raise Refused(400, str(error)) from None
        pixels = header.height * header.width
        if pixels > limits.max_pixels:
            size, most = size_text(header.height, header.width), limits.max_pixels / MILLION
            raise Refused(
                413,
                f"this image has {size} = {pixels / MILLION:.1f} million pixels, at most {most:g} "
                "million are taken; eval.py --eval folder has no such limit",
            )
        return data

    def _predicted(self, data: bytes, ticket: str) -> bytes:
        """The answer for an image file, when its turn has come."""
        shop = self.server.shop
        with shop.line.turn(ticket, self._is_gone):
            start = time.monotonic()
            try:
                picture = decode_image(data, IMAGE_NAME)
                prediction = shop.predictor.predict_picture(picture, str(IMAGE_NAME))
            except UserError as error:
                raise Refused(400, str(error)) from None
            seconds = time.monotonic() - start
        height, width = prediction.size
        shop.say(f"{size_text(height, width)} pixels, {seconds:.2f} s")
        return answer_bytes(prediction, seconds)

    def _is_gone(self) -> bool:
        """Whether the browser has closed the connection; it sends nothing while it waits."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.connection, selectors.EVENT_READ)
                ready = selector.select(0)
            return bool(ready) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _send_error(self, status: int, line: str, headers: Mapping[str, str]) -> None:
        self._drain()
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send_json(status, {"error": line}, headers)

    def _drain(self) -> None:
        """Read the rest of a refused upload: a browser that cannot send it hears no answer."""
        left, self.unread = self.unread, 0
        if left:
            self.close_connection = True
        with contextlib.suppress(OSError):
            for _ in range(0, min(left, DRAINED), CHUNK):
                if not self.rfile.read1(CHUNK):
                    break

    def _send_json(
        self, status: int, content: Mapping[str, object], headers: Mapping[str, str] = NO_HEADERS
    ) -> None:
        self._send(status, "application/json", json.dumps(content).encode(), headers)

    def _send(self, status: int, kind: str, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        every = {**PLAIN_HEADERS, **headers, "Content-Type": kind}
        for name, value in {**every, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
