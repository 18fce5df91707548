# SPDX-License-Identifier: Apache-2.0
"""Pictures of HILA's top-down attention: the hierarchy below and above tokens of one image.

    python -m reports.attention --arch hila.B1_S234 --snapshot FILE --image PICTURE \\
        --coords 10 20 --coords 4 7 --result_dir DIR

`--coords x y` is the row and the column of a token of the highest stage that has top-down
attention, counted from 0; `--stage` starts lower. Other flags are those of eval.py: a checkpoint
of this program needs no `--arch`, `--set MODEL.hila_stages=2,4` fits other stage sets.

    DIR/topdown_attn/STEM_x10_y20_hierarchical_attn_stage{3to4,2to4,1to4}.png   as published
    DIR/topdown_attn/STEM_x10_y20_parents_stage{2,3,4}of1.png                   the way up
    DIR/attention.html                                                          all tokens, one file
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from config import UserError, cfg
from datasets.base import read_image
from engine import build
from flags import parse_args
from network.build import list_archs
from network.convert.checkpoint import split_weights
from network.topdown import topdown_stages, topdown_weights
from reports.attention_page import TokenViews, View, write_attention_page
from reports.files import encode_png
from reports.token_hierarchy import (
    Grid,
    Picture,
    Weights,
    children_cells,
    grid_of,
    middle_child,
    overlay,
    parents_cells,
    window_box,
)
from runtime import distributed
from runtime.files import write_atomic
from runtime.precision import resolve_precision
from runtime.runlog import RunLog
from transforms.normalize import to_tensor

FOLDER, PAGE = "topdown_attn", "attention.html"
PUBLISHED_TOKEN = (1, 2)
HEADS = ("linear_pred.weight", "conv_seg.weight")  # rows are classes, in files of other programs


def read_arguments(argv: Sequence[str] | None) -> tuple[argparse.Namespace, argparse.Namespace]:
    """The flags of this program, and those it shares with eval.py, which fill `cfg`."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.attention",
        description="pictures of HILA's top-down attention",
        epilog="Flags of eval.py that choose network and device also count: --arch, --snapshot, "
        "--allow_partial, --set, --device, --precision, --result_dir.",
        allow_abbrev=False,
    )
    parser.add_argument("--image", type=Path, required=True, metavar="PICTURE")
    parser.add_argument(
        "--coords",
        type=int,
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="row and column of a token, from 0; may stand several times; default 1 2",
    )
    parser.add_argument("--stage", type=int, help="stage of the tokens; default the highest")
    parser.add_argument("--max_side", type=int, help="shrink a larger picture to so many pixels")
    own, shared = parser.parse_known_args(argv)
    if own.max_side is not None and own.max_side < 1:
        raise UserError(f"--max_side {own.max_side} must be at least 1")
    folder = ["--eval", "folder", "--eval_folder", str(own.image.parent)]
    return own, parse_args([*shared, *folder], prog=parser.prog)


def build_network(args: argparse.Namespace, log: RunLog) -> nn.Module:
    """The network of the flags with its weights, in eval mode; UserError if it is no HILA."""
    snapshot = build.read_snapshot(args)
    if snapshot is None:
        raise UserError("pictures need weights: --snapshot FILE")
    model = build.adopt_snapshot(args, cfg, snapshot)
    net = build.build_network(args, model, num_classes_of(snapshot), log, snapshot)
    if not topdown_stages(net):
        known = [name for name in list_archs() if name.startswith("hila.")]
        raise UserError(
            f"--arch {args.arch} has no inter-level attention to draw; {', '.join(known)} have"
        )
    return net.eval()


def num_classes_of(snapshot: build.Snapshot) -> int:
    """The number of classes that a checkpoint was trained for, whoever wrote it."""
    if snapshot.facts:
        return int(snapshot.facts["num_classes"])
    state, _ = split_weights(snapshot.content)
    rows = [value.shape[0] for name, value in state.items() if name.endswith(HEADS)]
    if not rows:
        raise UserError(f"--snapshot {snapshot.path} holds no classifier ({' or '.join(HEADS)})")
    return int(rows[0])


def read_picture(path: Path, max_side: int | None) -> Picture:
    """The picture, RGB, shrunk to `max_side` where it is larger."""
    image = read_image(path)
    factor = 1.0 if max_side is None else max_side / max(image.shape[:2])
    if factor >= 1:
        return image
    size = [max(round(factor * side), 1) for side in image.shape[1::-1]]
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def check_tokens(tokens: Sequence[Grid], grid: Grid, stage: int, image: Picture) -> None:
    """Raise UserError for a token outside of `grid`."""
    for row, column in tokens:
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            raise UserError(
                f"--coords {row} {column} lies outside: stage {stage} of this "
                f"{image.shape[1]}x{image.shape[0]} picture has rows 0..{grid[0] - 1} and columns "
                f"0..{grid[1] - 1} (x is the row, y the column)"
            )


def views_of(image: Picture, weights: Weights, token: Grid, top: int, stem: str) -> TokenViews:
    """All pictures of one token."""
    size = grid_of((image.shape[0], image.shape[1]), 1)
    box, name = window_box(weights, token, top), f"{stem}_x{token[0]}_y{token[1]}"
    down = [
        View(
            name=f"{name}_hierarchical_attn_stage{stage}to{top}",
            title=f"stage {stage} to {top}",
            picture=overlay(image, cells, box),
            largest=float(cells.max()) if stage in (1, top - 1) else None,
        )
        for stage, cells in children_cells(weights, token, top, size)
    ]
    lowest, child = middle_child(weights, token, top, size)
    up = [
        View(
            name=f"{name}_parents_stage{stage}of{lowest}",
            title=f"its parents in stage {stage}",
            picture=overlay(image, cells, box),
            largest=float(cells.max()),
        )
        for stage, cells in parents_cells(weights, child, lowest, top, size)
    ]
    words = f"the token of stage {lowest} in its middle, row {child[0]}, column {child[1]},"
    return TokenViews(token=token, box=box, down=down, up=up, child=words)


def draw(own: argparse.Namespace, args: argparse.Namespace, log: RunLog) -> Path:
    """Network, weights, pictures and page; returns the page."""
    image = read_picture(own.image, own.max_side)
    world = distributed.join(args.device, args.local_rank)
    net = build.place(args, build_network(args, log), world, log)
    precision, note = resolve_precision(args.precision, world.device)
    if note:
        log.msg(note)
    top = max(topdown_stages(net)) if own.stage is None else own.stage
    if top not in topdown_stages(net):
        stages = ", ".join(map(str, topdown_stages(net)))
        raise UserError(f"--stage {top}: {args.arch} has top-down attention from stage {stages}")
    tokens = list(dict.fromkeys((x, y) for x, y in own.coords or [PUBLISHED_TOKEN]))
    image_size = image.shape[0], image.shape[1]
    check_tokens(tokens, grid_of(image_size, top), top, image)
    with precision.autocast():
        weights = topdown_weights(net, to_tensor(image)[None].to(world.device))
    views = [views_of(image, weights, token, top, own.image.stem) for token in tokens]
    directory = Path(args.result_dir)
    for view in (view for each in views for view in each.down + each.up):
        write_atomic(directory / FOLDER / f"{view.name}.png", encode_png(view.picture))
    page = directory / PAGE
    facts = {"image": own.image.name, "size": f"{image_size[1]}x{image_size[0]}"}
    facts |= {"arch": args.arch, "snapshot": Path(args.snapshot).name}
    write_attention_page(
        page,
        title=f"{args.arch} on {own.image.name}",
        image=image,
        tokens=views,
        top=top,
        grid=grid_of(image_size, top),
        facts=facts,
    )
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Draw everything; exit code 2 with one line when the input is wrong."""
    try:
        own, args = read_arguments(argv)
        page = draw(own, args, RunLog(Path(args.result_dir), is_main=True))
    except UserError as error:
        print(f"error: {error}")
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"pictures: {page.parent / FOLDER}\npage: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
