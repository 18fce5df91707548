# SPDX-License-Identifier: Apache-2.0
"""From a graph in Python to a program of PyTorch that runs without it: `torch.export`."""

from __future__ import annotations

import io
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.nn.attention import SDPBackend, sdpa_kernel

from deploy.graph import INPUT, ExportGraph
from runtime.errors import UserError

Size = tuple[int, int]
MODEL_FILE = "model.pt2"
LEAST = 64  # pixels a side of the smallest copy of an image: two cells of stride 32
# Of the image that a graph of any size is made with. No stride divides these, so that each padding
# and each cut that an image may need leaves its step in the graph.
TRACED: Size = (229, 317)


def smallest(net: nn.Module) -> Size:
    """The smallest image that a graph of any size takes: a copy at the lowest scale has LEAST."""
    side = math.ceil(LEAST / min(1.0, *getattr(net, "scales", (1.0,))))
    return side, side


def as_products(kind: str) -> AbstractContextManager[object]:
    """Attention as products and a softmax, for ONNX: the steps of fused kernels depend on how
    their tensors lie in memory, which ONNX does not know.
    """
    return sdpa_kernel(SDPBackend.MATH) if kind == "onnx" else nullcontext()


@torch.no_grad()
def export_program(graph: ExportGraph, size: Size | None, kind: str) -> ExportedProgram:
    """The program of `graph` for images of `size`; without it of any size from `smallest` on.

    `kind` is what it is for: "onnx" or "pt2". UserError for a network whose steps depend on the
    size in a way that no graph can hold.
    """
    image = torch.full((1, *(size or TRACED), 3), 128, dtype=torch.uint8)
    shapes = None
    if size is None:
        low = smallest(graph.net)
        shapes = {INPUT: {1: Dim.DYNAMIC(min=low[0]), 2: Dim.DYNAMIC(min=low[1])}}
    with warnings.catch_warnings(), as_products(kind):
        warnings.simplefilter("ignore")  # about the insides of torch.export
        try:
            return torch.export.export(graph, (image,), dynamic_shapes=shapes, strict=False)
        except UserError:
            raise
        except (RuntimeError, ValueError, AssertionError, TypeError) as error:
            raise refused(graph.net, size, reason(error)) from error


def refused(net: nn.Module, size: Size | None, why: str) -> UserError:
    """The one line about a network that cannot be a graph for images of `size`, or of any size."""
    arch = getattr(net, "arch", "this network")
    if size is not None:
        return UserError(f"--size {size[0]},{size[1]}: {arch} cannot be exported ({why})")
    return UserError(
        f"--dynamic: {arch} cannot be one graph for all sizes ({why}); --size H,W exports it for "
        "one"
    )


def reason(error: Exception) -> str:
    """The line of what torch.export says that tells most."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("-") or "guard" in line or "Eq(" in line]
    return (told or lines or [type(error).__name__])[0].lstrip("- ")[:200]


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a `.pt2` file; OSError if it cannot be.

    Not by torch itself, whose writer ends the process on a full disk.
    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    path.write_bytes(buffer.getbuffer())


def load_program(path: Path) -> nn.Module:
    """A `.pt2` file, read anew: images (1, H, W, 3) -> what the graph gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(path).module()
