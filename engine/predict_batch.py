# SPDX-License-Identifier: Apache-2.0
"""One batch through the network; what cannot be predicted is reported, not fatal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datasets.batch import Batch
from engine.compute import Compute
from engine.predict import Infer, Inputs, scores_of
from runtime.errors import UserError
from runtime.memory import available, is_out_of_memory, size_text


def predict_batch(
    infer: Infer,
    batch: Batch,
    compute: Compute,
    count: Callable[[dict[str, Tensor]], None],
) -> list[tuple[str, str]]:
    """Hand the outputs of `infer` to `count`; nothing for a batch without images.

    Returns the images that are refused or need more memory than there is, each with the reason:
    file, size and what to do.
    """
    if not batch.names:
        return []
    device = compute.device
    try:
        _check_memory(batch, device)
        outputs = _outputs(infer, batch, compute)
        count(outputs)
        return []
    except _Refused as error:
        reason = str(error)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = _memory_text(device, str(error))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    files = zip(batch.names, batch.files or batch.names, batch.sizes, strict=True)
    return [
        (name, f"{file} ({width}x{height} pixels): {reason}")
        for name, file, (height, width) in files
    ]


class _Refused(Exception):
    """The network or the procedure does not take the images; the message says why."""


def _outputs(infer: Infer, batch: Batch, compute: Compute) -> dict[str, Tensor]:
    try:
        with compute.autocast():
            return scores_of(infer, _inputs(batch, compute.device))
    except UserError as error:
        raise _Refused(str(error)) from error


def _check_memory(batch: Batch, device: torch.device) -> None:
    """MemoryError for images that do not even fit into the host memory a second time.

    A network needs several times as much, so these cannot succeed; a system that grants more memory
    than it has would end the whole program.
    """
    needed, left = batch.input_bytes, available()
    if device.type == "cpu" and left is not None and needed > left:
        raise MemoryError(f"at least {size_text(needed)} are needed, {size_text(left)} are free")


def _memory_text(device: torch.device, said: str) -> str:
    """What to do about an allocation that failed."""
    place = "memory of the GPU" if device.type == "cuda" else "memory"
    reason = " ".join(said.split("\n", 1)[0].split())[:160]
    return (
        f"not enough {place} ({reason}); --slide_crop H,W --slide_stride H,W, fewer scales or "
        "a smaller image need less"
    )


def why(error: Exception) -> str:
    """The reason for an image that could not be stored, with the file if it is known."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


def _inputs(batch: Batch, device: torch.device) -> Inputs:
    """What goes through the network, and the size of the scores: that of the labels."""
    return Inputs(
        images=batch.network_input(device),
        rows=None if batch.rows is None else batch.rows.to(device, non_blocking=True),
        size=batch.sizes[0],
        originals=batch.originals,
    )
