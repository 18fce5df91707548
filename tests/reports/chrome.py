# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium driven over its DevTools pipe; no package beyond the standard library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
    "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--disable-extensions", "--force-device-scale-factor=1",
)  # fmt: skip
SECONDS = 60.0


class Chrome:
    """One browser with one page; `problems` collects everything the console complains about."""

    def __init__(self, profile: Path) -> None:
        assert PROGRAM is not None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
        command = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self.process = subprocess.Popen(
            ["bash", "-c", command, PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.loaded = False
        self._buffer, self._number, self._session = b"", 0, ""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and wait for it."""
        self.process.terminate()
        self.process.wait(SECONDS)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before it are noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self._note(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "no answer from Chromium"
            self._buffer += os.read(self._read, 1 << 20)
        line, _, self._buffer = self._buffer.partition(b"\0")
        content: dict[str, Any] = json.loads(line)
        return content

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.problems.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error"):
            self.problems.append(json.dumps(params["args"]))

    def open(self, page: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page from disk in a window of that many CSS pixels."""
        self.visit(page.resolve().as_uri(), width, height, dark)

    def visit(self, url: str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load an address in a window of that many CSS pixels."""
        self.problems, self.requests, self.loaded = [], [], False
        size = {"width": width, "height": height}
        self.call(
            "Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self._note(self._receive())

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, which may be a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file in an input of the page, as its dialog would."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve())])

    def point(self, x: float, y: float, kind: str = "mouseMoved", pressed: bool = False) -> None:
        """Move the mouse, press or release it at a place of the window, in CSS pixels."""
        button = {"button": "left", "buttons": 1, "clickCount": 1} if pressed else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, pointerType="mouse", **button)

    def save_downloads(self, folder: Path) -> None:
        """Let the page write what it offers into `folder`, without a question."""
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder.resolve()))

    def wait(self, script: str, seconds: float = SECONDS) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)
        return value

    def press(self, key: str) -> None:
        """Press and release a key, as a person would."""
        code = {"ArrowRight": 39, "ArrowLeft": 37, "ArrowDown": 40, "Escape": 27, "Tab": 9}
        number = code.get(key) or ord(key.upper())
        text = {"text": key} if len(key) == 1 else {}
        names = {"key": key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown", **names, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **names)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """A PNG of the page, or of the window alone."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
            answer = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))
