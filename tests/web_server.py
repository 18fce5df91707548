# SPDX-License-Identifier: Apache-2.0
"""A server of files on this machine that can be told to misbehave, and a hub of repositories."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


@dataclass
class Site:
    """What the server has, how it misbehaves, and what it was asked.

    cuts: for each of the next answers, the bytes after which its connection ends. ranges: whether
    it goes on from the middle. status: answer with this number instead. pause: seconds between
    pieces. headers: to add, None takes one away.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    status: int = 0
    pause: float = 0.0
    headers: dict[str, str | None] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def put(self, repo: str, name: str, content: bytes, commit: str = COMMIT) -> None:
        """A file of a repository, as `main` and as its commit."""
        for revision in ("main", commit):
            self.files[f"/{repo}/resolve/{revision}/{name}"] = content


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path, wanted = self.path.split("?")[0], self.headers.get("Range")
            site.asked.append((self.command, path, wanted))
            content = site.files.get(path)
            if site.status or content is None:
                self._refuse(site.status or 404, path)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            end, start, same = len(content), 0, self.headers.get("If-Range", tag) == tag
            if wanted and site.ranges and same:
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                if start >= end:
                    self._refuse(416, path)
                    return
            self.send_response(206 if start else 200)
            sent: dict[str, str | None] = {
                "Content-Type": "application/octet-stream",
                "Content-Length": str(end - start),
                "ETag": tag,
                "Content-Range": f"bytes {start}-{end - 1}/{end}" if start else None,
                **_hub_headers(path),
                **site.headers,
            }  # fmt: skip
            for name, value in sent.items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            if body:
                self._send(content[start:])

        def _send(self, content: bytes) -> None:
            self.close_connection = True
            if site.cuts:
                content = content[: site.cuts.pop(0)]
            with contextlib.suppress(OSError):
                for first in range(0, len(content), 65536):
                    self.wfile.write(content[first : first + 65536])
                    time.sleep(site.pause)

        def _refuse(self, status: int, path: str) -> None:
            self.send_response(status)
            for name, value in _hub_headers(path).items():
                self.send_header(name, value)
            if "/resolve/" in path and status == 404:
                known = any(name.split("/resolve/")[0] == path.split("/resolve/")[0]
                            for name in site.files)  # fmt: skip
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


def _hub_headers(path: str) -> dict[str, str]:
    """What the hub says of every file of a repository: its commit."""
    if "/resolve/" not in path:
        return {}
    revision = path.split("/resolve/")[1].split("/")[0]
    return {"X-Repo-Commit": COMMIT if revision == "main" else revision}


@contextlib.contextmanager
def serving(site: Site) -> Iterator[Site]:
    """`site` at `site.url` on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(site))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
