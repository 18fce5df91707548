# SPDX-License-Identifier: Apache-2.0
"""From a graph in Python to a program of PyTorch that runs without it: `torch.export`."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from deploy.graph import INPUT, ExportGraph
from runtime.errors import UserError

Size = tuple[int, int]
SMALLEST: Size = (32, 32)  # that a graph of any size takes
TRACED: Size = (160, 224)  # of the image that such a graph is made with
MODEL_FILE = "model.pt2"


def example(size: Size) -> Tensor:
    """An image (1, H, W, 3) in the middle of the range."""
    return torch.full((1, *size, 3), 128, dtype=torch.uint8)


@torch.no_grad()
def export_program(graph: ExportGraph, size: Size | None) -> ExportedProgram:
    """The program of `graph` for images of `size`, of any size from SMALLEST on without it.

    UserError for a network whose steps depend on the size in a way that no graph can hold.
    """
    shapes = None
    if size is None:
        sides = Dim("height", min=SMALLEST[0]), Dim("width", min=SMALLEST[1])
        shapes = {INPUT: {1: sides[0], 2: sides[1]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the insides of torch.export
        try:
            return torch.export.export(
                graph, (example(size or TRACED),), dynamic_shapes=shapes, strict=False
            )
        except Exception as error:
            if size is not None:
                raise
            raise UserError(
                f"--dynamic: {getattr(graph.net, 'arch', 'this network')} cannot be one graph for "
                f"all sizes ({reason(error)}); --size H,W exports it for one"
            ) from error


def reason(error: Exception) -> str:
    """The first line of what torch.export says that tells anything."""
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    told = [line for line in lines if "Eq(" in line or "guard" in line or "specialized" in line]
    return (told or [line for line in lines if line] or [type(error).__name__])[0][:200]


def save_program(program: ExportedProgram, path: Path) -> None:
    """Write a `.pt2` file."""
    torch.export.save(program, path)


@torch.no_grad()
def run_program_file(path: Path, image: Tensor) -> Tensor:
    """What a `.pt2` file, read anew, gives for an image (1, H, W, 3)."""
    module = torch.export.load(path).module()
    found: Tensor = module(image)
    return found
