# SPDX-License-Identifier: Apache-2.0
"""Export a checkpoint into a folder that runs without this program and without PyTorch.

    python -m deploy.export --snapshot best_checkpoint.pth --out street_model
    python -m deploy.export --snapshot FILE --out DIR --n_scales 0.5,1.0,2.0 --size 1024,2048
    python -m deploy.export --snapshot FILE --out DIR --dynamic --output scores --image a.jpg
    python street_model/predict.py photos/ --out ids           # NumPy, OpenCV, ONNX Runtime

The graph takes a uint8 RGB image; normalisation, all scales of the network and, with
`--output ids`, the choice of the class lie inside. The file is compared with PyTorch on a picture
before the folder appears, and refused if more than 0.01 % of the pixels differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from assembly.inspection import run_program
from datasets.headers import image_size
from deploy import onnx_file, predict, program
from deploy.compare import Check, Picture, Run, compare, picture, require_same
from deploy.folder import new_folder, refuse_existing
from deploy.graph import ExportGraph, Output, Precision
from deploy.loading import SHARED_FLAGS, Loaded, load, network_settings
from deploy.model_json import GraphFacts, model_json, write_model_json
from settings import Parser
from settings.convert import file_name

PROG = "python -m deploy.export"
Size = tuple[int, int]
DEFAULT_SIZE: Size = (512, 1024)
MODEL_FILES = {"onnx": onnx_file.MODEL_FILE, "pt2": program.MODEL_FILE}


def size(text: str) -> tuple[int, int]:
    """`512,1024`: height and width of the images."""
    parts = text.split(",")
    if len(parts) != 2 or not all(part.isdecimal() and 0 < int(part) < 1 << 16 for part in parts):
        raise argparse.ArgumentTypeError(f"{text}: HEIGHT,WIDTH in pixels wanted, as in 512,1024")
    return int(parts[0]), int(parts[1])


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = Parser(
        prog=PROG,
        description=__doc__,
        epilog=SHARED_FLAGS,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=file_name, required=True, metavar="DIR", help="folder to make")
    add("--format", choices=("onnx", "pt2"), default="onnx", help="pt2: torch.export, for PyTorch")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=size, metavar="H,W", help="of the images, default 512,1024")
    sizes.add_argument("--dynamic", action="store_true", help="one graph for images of any size")
    add("--precision", choices=("fp32", "fp16"), default="fp32", help="number format inside")
    add("--output", choices=("ids", "scores"), default="ids", help="what the graph gives")
    add(
        "--image",
        type=Path,
        metavar="FILE",
        help="compared on this, by default on a photograph of scikit-image",
    )
    return parser


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for; without a size a graph for any of them if `dynamic`."""

    out: str = ""
    format: str = "onnx"
    size: Size | None = None
    dynamic: bool = False
    precision: Precision = "fp32"
    output: Output = "ids"
    image: Path | None = None


def write(own: Request, loaded: Loaded, folder: Path) -> list[Check]:
    """Make the files of the export in `folder`; the comparisons that they passed."""
    graph = ExportGraph(
        loaded.net, output=own.output, rows=loaded.takes_rows, precision=own.precision
    ).eval()
    size, low = None if own.dynamic else own.size or DEFAULT_SIZE, program.smallest(loaded.net)
    made = program.export_program(graph, size, own.format)
    facts = GraphFacts(
        file=MODEL_FILES[own.format],
        kind=own.format,
        precision=own.precision,
        output=own.output,
        size=size,
        smallest=low,
    )
    content = model_json(loaded.net, loaded.spec, loaded.file, facts)
    path = folder / MODEL_FILES[own.format]
    if own.format == "onnx":
        onnx_file.save_onnx(made, path, own.output)
        (folder / "predict.py").write_bytes(Path(predict.__file__).read_bytes())
    else:
        program.save_program(made, path)
    del made
    write_model_json(folder, content)  # by which the check reads it as users do
    sizes = [size] if size else [natural_size(own.image, low), *other_sizes(low)]
    checks = checked(graph, runner(folder, own.format), own.image, sizes)
    write_model_json(folder, {**content, "check": checks[0].as_json()})
    return checks


def checked(graph: ExportGraph, run: Run, image: Path | None, sizes: Sequence[Size]) -> list[Check]:
    """The comparisons at all `sizes`; UserError where the file does something else, or nothing."""
    checks = []
    for size in sizes:
        try:
            checks.append(compare(graph, run, *picture(image, size)))
        except (predict.ModelError, RuntimeError, AssertionError) as error:
            one = size if len(sizes) == 1 else None
            raise program.refused(graph.net, one, program.reason(error)) from error
    require_same(checks)
    return checks


def natural_size(image: Path | None, low: Size) -> Size:
    """That of the image of the check, each side at least that of `low`."""
    height, width = DEFAULT_SIZE if image is None else image_size(image)
    return max(height, low[0]), max(width, low[1])


def other_sizes(low: Size) -> list[Size]:
    """Further ones for a graph of any size: multiples of all strides, and odd in several ways."""
    height, width = (-(-side // 32) * 32 for side in low)
    return [
        (2 * height, width + 32),
        (height + 1, width + 31),
        (height + 31, width + 7),
        low,
    ]


def runner(folder: Path, kind: str) -> Run:
    """What runs the file in `folder` on one image."""
    if kind == "onnx":
        return predict.ExportedModel(folder).run

    module = program.load_program(folder / MODEL_FILES[kind])

    @torch.no_grad()
    def run(image: Picture) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = module(torch.from_numpy(image)[None])[0].numpy()
        return found

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; exit code 2 for a file, a network or a size that does not fit."""

    def work() -> str:
        found, shared = command_line().parse_known_args(argv)
        own = Request(**vars(found))
        out, start = Path(own.out), time.monotonic()
        refuse_existing(out)
        natural_size(own.image, DEFAULT_SIZE)  # a file that cannot be read, before anything long
        if own.format == "onnx":
            onnx_file.require_onnx()
        settings = network_settings(shared, PROG)
        with new_folder(out) as folder:
            checks = write(own, load(settings, folder), folder)
        return "\n".join(
            [*map(str, checks), f"{out}: exported in {time.monotonic() - start:.0f} s"]
        )

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())
