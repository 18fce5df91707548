# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of a run, chosen in one place: fp32, tf32, fp16 or bf16."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from runtime.errors import UserError

_SWITCHES = threading.Lock()  # around what torch keeps once for the whole process


@dataclass(frozen=True)
class Precision:
    """`name` as resolved for the device, and what is needed to run in it."""

    name: str
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context the network's forward runs in; losses and metrics stay outside."""
        if self.name in ("fp32", "tf32"):
            return nullcontext()
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device_type, dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """A loss scaler, active for fp16 only; its state is part of a checkpoint."""
        return torch.amp.GradScaler(self.device_type, enabled=self.name == "fp16")

    @contextlib.contextmanager
    def borrowed(self) -> Iterator[None]:
        """Inside, a CUDA device computes as `resolve_precision` sets it; then as it did before.

        For callers to whom the process does not belong: one at a time, on a CPU there is nothing
        to change.
        """
        if self.device_type != "cuda":
            yield
            return
        with _SWITCHES:
            before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
            _apply(self)
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before[0])
                torch.backends.cudnn.allow_tf32 = before[1]


def resolve_precision(name: str, device: torch.device) -> tuple[Precision, str]:
    """The precision for `device` and a line to log ('' when nothing was changed).

    fp16 has no loss scaling and no fast kernels on a CPU: bf16 is used there, and the line says so.
    From here on the whole process computes in it. Raises UserError for tf32 without CUDA.
    """
    precision, note = choose_precision(name, device)
    _apply(precision)
    return precision, note


def choose_precision(name: str, device: torch.device) -> tuple[Precision, str]:
    """What `resolve_precision` gives, without any effect on the process."""
    note = ""
    if device.type == "cpu" and name == "fp16":
        name, note = "bf16", "precision fp16 is bf16 on a CPU"
    if name == "tf32" and device.type != "cuda":
        raise UserError("--precision tf32 needs CUDA; use fp32 or bf16 on a CPU")
    return Precision(name, device.type), note


def _apply(precision: Precision) -> None:
    """The switches of the process for `precision`."""
    is_tf32 = precision.name == "tf32"
    torch.set_float32_matmul_precision("high" if is_tf32 else "highest")
    if precision.device_type == "cuda":
        torch.backends.cudnn.allow_tf32 = is_tf32
