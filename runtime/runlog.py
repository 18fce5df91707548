# SPDX-License-Identifier: Apache-2.0
"""The log of a run: runx's logx, `status.json`, `run.json` and progress lines.

runx drops exit codes and shows stderr only at the end, so everything a user must see goes to
stdout and the outcome of the run to `status.json`.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from runx.logx import logx
from tqdm import tqdm

from runtime.checkpoint import save

PROGRESS_SECONDS = 5.0


def plain(value: Any) -> Any:
    """`value` with tuples, paths and NumPy or torch scalars turned into what JSON holds."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else str(value)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically. Raises SaveError."""
    text = json.dumps(plain(content), indent=2) + "\n"
    save(path, lambda file: file.write(text.encode()))


def git_revision(root: Path) -> str | None:
    """The commit of the code, None outside a git checkout (a runx copy has no .git)."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def versions() -> dict[str, str | None]:
    """What a reader needs to repeat the run: interpreter, libraries, device."""
    import cv2
    import numpy

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": metadata.version("torchvision"),
        "numpy": numpy.__version__,
        "opencv": cv2.__version__,
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "host": platform.node(),
    }


class RunLog:
    """Writes on rank 0, does nothing elsewhere.

    `directory` is created; ValueError when it can not be written.
    """

    def __init__(self, directory: Path, is_main: bool, progress: bool = True) -> None:
        self.directory = directory
        self.is_main = is_main
        self.progress_bar = progress and is_main and sys.stdout.isatty()
        self._started = time.time()
        self._open = False
        if is_main:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                probe = directory / f".probe{os.getpid()}"
                probe.touch()
                probe.unlink()
            except OSError as error:
                message = f"--result_dir {directory} can not be written: {error.strerror}"
                raise ValueError(message) from error

    def open(self, hparams: Mapping[str, Any]) -> None:
        """Start logging.log, metrics.csv, hparams.json and the TensorBoard file."""
        rank = 0 if self.is_main else 1
        # It says that some value is NaN, not which one; whoever computed it has said so by then.
        logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
        logx.initialize(
            str(self.directory), tensorboard=True, hparams=plain(hparams), global_rank=rank
        )
        self._open = True

    def close(self) -> None:
        """Close the files; logx itself never does."""
        if self._open and self.is_main:
            logx.tensorboard.close()
            logx.log_file.close()
            logx.metrics_fp.close()
        self._open = False

    def msg(self, text: str) -> None:
        """One line to stdout and logging.log."""
        if not self.is_main:
            return
        if self._open:
            logx.msg(text)
        else:
            print(text)
        sys.stdout.flush()

    def metric(self, phase: str, values: Mapping[str, float], step: int) -> None:
        """Scalars to TensorBoard; `val` rows to metrics.csv too."""
        if self.is_main:
            logx.metric(phase, {key: float(value) for key, value in values.items()}, step)

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number to TensorBoard alone."""
        if self.is_main:
            logx.add_scalar(name, value, step)

    def image(self, name: str, picture: torch.Tensor, step: int) -> None:
        """A (3, H, W) picture, 0..1, to TensorBoard."""
        if self.is_main:
            logx.add_image(name, picture, step)

    def status(self, state: str, reason: str = "", **facts: Any) -> None:
        """Write `status.json`: running, done, failed or interrupted, and why."""
        if not self.is_main:
            return
        now = time.time()
        content = {"status": state, "reason": reason, "pid": os.getpid(), "updated": now}
        content["seconds"] = round(now - self._started, 1)
        write_json(self.directory / "status.json", {**content, **facts})

    def msg_any_rank(self, text: str) -> None:
        """A line about something only this rank saw; logging.log has rank 0's alone."""
        if self.is_main:
            self.msg(text)
        else:
            print(text, flush=True)

    def progress(self, title: str) -> Callable[[int, int | None], None]:
        """A function (done, total) that moves a bar, or prints a line every few seconds."""
        if self.progress_bar:
            bar = tqdm(desc=title, file=sys.stdout)

            def move(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)
                if done == total:
                    bar.close()

            return move
        start = last = time.monotonic()

        def report(done: int, total: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PROGRESS_SECONDS:
                last = now
                rest = 0.0 if total is None else (now - start) / done * (total - done)
                self.msg(f"{title} {done}/{total or '?'}, {rest:.0f} s left")

        return report
