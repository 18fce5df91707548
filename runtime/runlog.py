# SPDX-License-Identifier: Apache-2.0
"""The log of a run: runx's logx, `status.json`, `run.json` and progress lines.

runx drops exit codes and shows stderr only at the end, so everything a user must see goes to
stdout, and the outcome of the run to `status.json`.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from runx.logx import logx
from tqdm import tqdm

from runtime import val_rows
from runtime.checkpoint import SaveError, save
from runtime.limits import one_line
from runtime.names import printable
from runtime.progress import Pace, Progress
from runtime.trackers.contract import Maker, Tell, without_password
from runtime.trackers.opened import Trackers
from runtime.trackers.tensorboard import TensorBoard

HPARAMS = "hparams.json"
TENSORBOARD: Mapping[str, Maker] = {"tensorboard": TensorBoard}


def plain(value: Any) -> Any:
    """`value` with tuples, paths and NumPy or torch scalars turned into what JSON holds.

    NaN and infinity, which JSON cannot express, become None.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    item = getattr(value, "item", None)
    return plain(item()) if callable(item) else str(value)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically. Raises SaveError."""
    text = json.dumps(plain(content), indent=2, allow_nan=False) + "\n"
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

    `directory` is created; ValueError if it cannot be written.
    """

    def __init__(self, directory: Path, is_main: bool, progress: bool = True) -> None:
        self.directory = directory
        self.is_main = is_main
        self.progress_bar = progress and is_main and sys.stdout.isatty()
        self._started = time.time()
        self._open = False
        self._missed: set[str] = set()  # files that could not be written, each named once
        self._trackers = Trackers(self._tell_of)
        self._state = "failed"  # as status.json says
        if is_main:
            try:
                directory.mkdir(parents=True, exist_ok=True)
                probe = directory / f".probe{os.getpid()}"
                probe.touch()
                probe.unlink()
            except OSError as error:
                message = f"--result_dir {directory} cannot be written: {error.strerror}"
                raise ValueError(message) from error

    def open(
        self,
        hparams: Mapping[str, Any],
        trackers: Mapping[str, Maker] = TENSORBOARD,
        goes_on: bool = False,
    ) -> None:
        """Start logging.log, metrics.csv, hparams.json and the trackers, by their names.

        `goes_on`: a run of this directory is resumed, in the same runs of the trackers. Raises
        SaveError, and UserError for a tracker that cannot start.
        """
        rank = 0 if self.is_main else 1
        directory = self.directory
        try:
            if self.is_main:
                val_rows.mend(directory)
                if not (directory / HPARAMS).exists():  # runx has written it
                    write_json(directory / HPARAMS, hparams)
                # It would load the best checkpoint for a comparison that this program makes itself.
                logx.get_best_checkpoint = lambda: None
            logx.initialize(str(directory), global_rank=rank)
            self._open = True
            if self.is_main:
                # A file name may be anything; the log is UTF-8 in every locale.
                logx.log_file.reconfigure(encoding="utf-8", errors="backslashreplace")
                for line in self._trackers.open(trackers, directory, plain(hparams), goes_on):
                    self.msg(line)
        except OSError as error:
            if not self._open:  # it would close, at the end, what it has not opened
                logx.initialized = False
            raise SaveError(
                f"--result_dir {directory}: {error.filename or 'the log'} could not be written "
                f"({error.strerror}); free some space, or name another"
            ) from error

    def close(self) -> None:
        """Close the files; logx itself never does. What could not be written is lost by now."""
        if self._open and self.is_main:
            self._trackers.close(self._state)
            for close in (logx.log_file.close, logx.metrics_fp.close):
                with contextlib.suppress(OSError):
                    close()
        self._open = False

    def _tell_of(self, name: str) -> Tell:
        """What takes the errors of a tracker."""
        if name == "tensorboard":
            return lambda error: self._miss("the TensorBoard file", error)

        def tell(error: BaseException) -> None:
            reason = one_line(without_password(str(error)) or type(error).__name__)
            self.msg(f"warning: --tracker {name} failed ({reason}); the run goes on without it")

        return tell

    def _miss(self, name: str, error: BaseException) -> None:
        """Warn, once per file, about a file that the run can do without."""
        if name in self._missed:
            return
        self._missed.add(name)
        reason = getattr(error, "strerror", None) or str(error)
        with contextlib.suppress(OSError):
            print(f"warning: {name} could not be written ({reason}); the run goes on", flush=True)

    def msg(self, text: str) -> None:
        """One line to stdout and logging.log."""
        if not self.is_main:
            return
        try:
            if self._open:
                logx.msg(text)
            else:
                print(text)
            sys.stdout.flush()
        except OSError as error:
            self._miss("a line of the log", error)

    def metric(self, phase: str, values: Mapping[str, float], step: int) -> None:
        """Scalars to the trackers; `val` rows also to metrics.csv, on the disk when this returns.

        Raises SaveError when such a row cannot be written.
        """
        if not self.is_main:
            return
        numbers = {key: float(value) for key, value in values.items()}
        try:
            logx.metric(phase, numbers, step)
            if phase == "val":
                os.fsync(logx.metrics_fp.fileno())
        except OSError as error:
            path = self.directory / val_rows.METRICS
            message = f"{path} could not be written ({error.strerror}); free some space"
            raise SaveError(message) from error
        self._trackers.log({f"{phase}/{key}": value for key, value in numbers.items()}, step)

    def keep_val_rows(self, last: float) -> dict[str, float]:
        """Drop the val rows of metrics.csv that come after `last`, torn ones and repeated ones.

        Returns the values of the row numbered `last`, {} if there is none, and on other ranks.
        Raises SaveError.
        """
        if not self.is_main:
            return {}
        text = val_rows.read(self.directory)
        rows, found = val_rows.kept(text, last)
        if rows != text:
            path = self.directory / val_rows.METRICS
            save(path, lambda file: file.write(rows.encode()))
            if self._open:  # the open file is the old one
                logx.metrics_fp.close()
                logx.metrics_fp = path.open("a+")
                logx.metrics_writer = csv.writer(logx.metrics_fp, delimiter=",")
        return found

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers to the trackers only."""
        if self.is_main:
            self._trackers.log(values, step)

    def image(self, name: str, image: torch.Tensor, step: int) -> None:
        """A (3, H, W) image, 0..1, to the trackers."""
        if self.is_main:
            self._trackers.image(printable(name), image, step)

    def status(self, state: str, reason: str = "", **facts: Any) -> None:
        """Write `status.json`: running, done, failed or interrupted, and why.

        A full disk costs a line, not the run.
        """
        if not self.is_main:
            return
        self._state = state
        now = time.time()
        content = {"status": state, "reason": reason, "pid": os.getpid(), "updated": now}
        content["seconds"] = round(now - self._started, 1)
        try:
            write_json(self.directory / "status.json", {**content, **facts})
        except SaveError as error:
            self._miss("status.json", error.__cause__ if error.__cause__ else error)

    def msg_any_rank(self, text: str) -> None:
        """A line about something only this rank saw; logging.log holds only those of rank 0.

        It stays one line where a file name in it has line breaks.
        """
        text = " ".join(text.splitlines())
        if self.is_main:
            self.msg(text)
        else:
            print(text, flush=True)

    def progress(self, title: str) -> Progress:
        """A function (done, total) that moves a bar, or prints a line every few seconds."""
        if self.progress_bar:
            bar = tqdm(desc=title, file=sys.stdout)

            def move(done: int, total: int | None) -> None:
                bar.total = total
                bar.update(done - bar.n)
                if done == total:
                    bar.close()

            return move
        start, pace = time.monotonic(), Pace()

        def report(done: int, total: int | None) -> None:
            if pace.is_due():
                line = f"{title} {done}/{total or '?'}"
                if total is not None:
                    line += f", {(pace.last - start) / done * (total - done):.0f} s left"
                self.msg(line)

        return report
