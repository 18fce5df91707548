# SPDX-License-Identifier: Apache-2.0
"""The page's own server in this process, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deploy.predictor import Predictor
from deploy.serve import open_server
from deploy.server import Limits, PageServer
from tests.program import ROOT, command, environment


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def serving(
    predictor: Predictor,
    *,
    max_bytes: int = 4_000_000,
    max_pixels: int = 1_000_000,
    waiting: int = 32,
) -> Iterator[PageServer]:
    """A server on a free port, which ends with the block."""
    limits = Limits(max_bytes=max_bytes, max_pixels=max_pixels, waiting=waiting)
    with open_server(predictor, "tiny <net>.pth", "127.0.0.1", 0, limits) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
            assert server.shop.line.close(10)


@dataclass
class Reply:
    """Status, headers in small letters, and body of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The line of a refusal."""
        content = json.loads(self.body)
        assert list(content) == ["error"]
        line = content["error"]
        assert isinstance(line, str) and "\n" not in line
        return line

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The facts of a prediction, and its image, ids and confidence as arrays."""
        assert self.status == 200, self.body[:300]
        length = int.from_bytes(self.body[:4], "little")
        facts, start = json.loads(self.body[4 : 4 + length]), 4 + length
        found = {}
        for name, size in facts["parts"].items():
            found[name] = np.frombuffer(self.body[start : start + size], np.uint8)
            start += size
        assert start == len(self.body)
        shape = facts["height"], facts["width"]
        found["image"] = found["image"].reshape(*shape, 3)
        found["ids"] = found["ids"].view("<u1" if facts["id_bytes"] == 1 else "<u2").reshape(shape)
        if found["confidence"].size:
            found["confidence"] = found["confidence"].reshape(shape)
        return facts, found


def ask(
    server: PageServer,
    path: str = "/",
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    method: str = "",
) -> Reply:
    """One request on a connection of its own."""
    return ask_port(server.socket.getsockname()[1], path, data, headers, method)


def ask_port(
    port: int,
    path: str = "/",
    data: bytes | None = None,
    headers: dict[str, str] | None = None,
    method: str = "",
) -> Reply:
    """The same of a server in another process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method or ("GET" if data is None else "POST"), path, data, headers or {})
        answer = connection.getresponse()
        known = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, known, answer.read())
    finally:
        connection.close()


def started(*flags: str) -> tuple[subprocess.Popen[str], int]:
    """The program, and the port that it says it listens at.

    It hears Ctrl-C even where the tests are a background job of a shell, which ignores it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            command("-m", "deploy.serve", "--port", "0", *flags),
            cwd=ROOT, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("page: http://127.0.0.1:"):
            return process, int(line.split(":")[3].split("/")[0])
    raise AssertionError(process.communicate())
