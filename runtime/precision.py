# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of a run, chosen in one place: fp32, tf32, fp16 or bf16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


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


def resolve_precision(name: str, device: torch.device) -> tuple[Precision, str]:
    """The precision for `device` and a line to log ('' when nothing was changed).

    fp16 has no loss scaling and no fast kernels on a CPU: bf16 is used there, and the line says so.
    Raises ValueError for tf32 without CUDA.
    """
    note = ""
    if device.type == "cpu" and name == "fp16":
        name, note = "bf16", "precision fp16 is bf16 on a CPU"
    if name == "tf32" and device.type != "cuda":
        raise ValueError("--precision tf32 needs CUDA; use fp32 or bf16 on a CPU")
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = name == "tf32"
    return Precision(name, device.type), note
