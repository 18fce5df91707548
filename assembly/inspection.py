# SPDX-License-Identifier: Apache-2.0
"""What the programs that look into a network share: flags, image, weights, the way they end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import nn

from assembly.network import build_network
from assembly.snapshot import Snapshot, adopted, read_snapshot
from datasets.base import read_image
from network.convert import foreign
from network.convert.checkpoint import split_weights
from network.fetch import fetch
from network.unept import QUERIES
from reports.token_hierarchy import Picture
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.runlog import RunLog
from settings import Parser, Settings, read_settings
from settings.convert import number
from settings.model import ModelConfig
from settings.ranges import POSITIVE_COUNT

CLASSIFIERS = ("linear_pred.weight", "conv_seg.weight", "cls.weight")  # rows are classes
SHARED_FLAGS = (
    "Flags of eval.py that choose network, device and output also count: --arch, --snapshot, "
    "--allow_partial, --set, --device, --precision, --result_dir."
)


def inspection_parser(module: str, description: str) -> Parser:
    """A parser with the flags of every such program."""
    parser = Parser(
        prog=f"python -m {module}",
        description=description,
        epilog=SHARED_FLAGS,
        allow_abbrev=False,
    )
    parser.add_argument("--image", type=Path, required=True, metavar="FILE", help="the image")
    parser.add_argument(
        "--max_side",
        type=number(int, POSITIVE_COUNT),
        help="shrink a larger image until its long side has so many pixels",
    )
    return parser


def read_request(parser: Parser, argv: Sequence[str] | None) -> tuple[dict[str, Any], Settings]:
    """The flags of `parser` by name, and the settings of those shared with eval.py."""
    found, shared = parser.parse_known_args(argv)
    own = vars(found)
    folder = ["--eval", "folder", "--eval_folder", str(own["image"].parent)]
    return own, read_settings([*shared, *folder], prog=parser.prog)


def read_input(path: Path, max_side: int | None) -> Picture:
    """The image (H, W, 3) uint8 RGB, shrunk to `max_side` where it is larger."""
    image = read_image(path)
    factor = 1.0 if max_side is None else max_side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(round(factor * side), 1) for side in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def read_weights(settings: Settings) -> Snapshot:
    """The file of --snapshot; UserError without one: pictures of random weights mean nothing."""
    name = settings.network.snapshot
    if not name:
        raise UserError("pictures need weights: --snapshot FILE")
    snapshot = read_snapshot(fetch(name, print).path)
    assert snapshot is not None
    return snapshot


def load_network(settings: Settings, snapshot: Snapshot, log: RunLog) -> tuple[nn.Module, Settings]:
    """The network with the weights of `snapshot`, in eval mode, and what the file knew better."""
    settings = adopted(settings, snapshot)
    if not snapshot.facts:
        model = with_square_grid(settings.MODEL, snapshot)
        settings = dataclasses.replace(settings, MODEL=model)
    net = build_network(settings, num_classes_of(snapshot), log, snapshot)
    return net.eval(), settings


def with_square_grid(model: ModelConfig, snapshot: Snapshot) -> ModelConfig:
    """`model` with the grid of queries of an official UN-EPT file, which are square.

    Another grid that the user chose stays, and so does that of files without queries.
    """
    state, _ = split_weights(snapshot.content)
    found = [len(value) for name, value in state.items() if name.endswith(QUERIES)]
    side = math.isqrt(found[0]) if found else 0
    if not found or side * side != found[0] or model.query_grid != ModelConfig().query_grid:
        return model
    return dataclasses.replace(model, query_grid=(side, side))


def num_classes_of(snapshot: Snapshot) -> int:
    """The number of classes that a checkpoint was trained for, whoever wrote it."""
    if snapshot.facts:
        return int(snapshot.facts["num_classes"])
    if snapshot.hub and snapshot.hub.num_classes:
        return snapshot.hub.num_classes
    state, _ = split_weights(snapshot.content)
    other = foreign.translate(state)
    state = state if other is None else other.state
    rows = [value.shape[0] for name, value in state.items() if name.endswith(CLASSIFIERS)]
    if not rows:
        heads = " or ".join(CLASSIFIERS)
        raise UserError(f"--snapshot {snapshot.path} holds no classifier ({heads})")
    return int(rows[0])


def announce(log: RunLog, arch: str, image: Picture, device: object) -> None:
    """Say what the program is busy with: on a large image it takes a while."""
    log.msg(f"{arch}: one pass over {image.shape[1]}x{image.shape[0]} pixels on {device} ...")


def run_program(main: Callable[[], str]) -> int:
    """Print the lines that `main` returns; exit code 2 with one line when the input is wrong."""
    streams.tolerate()
    try:
        done = main()
    except OSError as error:
        if error.filename is None:
            return wrong_input(error)
        return wrong_input(f"{error.filename}: cannot be written: {error.strerror}")
    except ValueError as error:  # UserError, and what the parts below raise for wrong input
        return wrong_input(error)
    print(done)
    return 0
