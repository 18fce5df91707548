# SPDX-License-Identifier: Apache-2.0
"""Pictures of HILA's top-down attention: the tokens below and above a token of an image.

    python -m tools.attention --arch hila.B1_S234 --snapshot FILE --image FILE \\
        --coords 10 20 --coords 4 7 --result_dir DIR

`--coords ROW COLUMN` is a token of the highest stage that has top-down attention, counted from 0
and, as published, row first; `--stage` starts lower. Other flags are those of eval.py: a checkpoint
of this program needs no `--arch`, `--set MODEL.hila_stages=2,4` fits other stage sets.

    DIR/topdown_attn/STEM_x10_y20_hierarchical_attn_stage{3to4,2to4,1to4}.png   as published
    DIR/topdown_attn/STEM_x10_y20_parents_stage{2,3,4}of1.png                   the way up
    DIR/attention.html                                                          all tokens, one file
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from assembly.inspection import (
    announce,
    inspection_parser,
    load_network,
    read_input,
    read_request,
    read_weights,
    run_program,
)
from assembly.network import place
from network.build import list_archs
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
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.precision import resolve_precision
from runtime.runlog import RunLog
from settings import Parser, Settings
from transforms.normalize import to_tensor

FOLDER, PAGE = "topdown_attn", "attention.html"
PUBLISHED_TOKEN = (1, 2)


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = inspection_parser("tools.attention", "pictures of HILA's top-down attention")
    parser.add_argument(
        "--coords",
        type=int,
        nargs=2,
        action="append",
        metavar=("ROW", "COLUMN"),
        help="token in the grid of its stage, from 0, row first as published (pixels of "
        "tools.deformable are x first); may stand several times; default 1 2",
    )
    parser.add_argument("--stage", type=int, help="stage of the tokens; default the highest")
    return parser


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for: an image, tokens (row, column) and their stage."""

    image: Path
    max_side: int | None
    coords: Sequence[tuple[int, int]] | None
    stage: int | None


def load_hila(settings: Settings, log: RunLog) -> tuple[nn.Module, Settings]:
    """The network with its weights, in eval mode; UserError if it is no HILA."""
    net, settings = load_network(settings, read_weights(settings), log)
    if not topdown_stages(net):
        known = [name for name in list_archs() if name.startswith("hila.")]
        raise UserError(
            f"--arch {settings.network.arch} has no inter-level attention to draw; "
            f"{', '.join(known)} have"
        )
    return net, settings


def check_tokens(tokens: Sequence[Grid], grid: Grid, stage: int, image: Picture) -> None:
    """Raise UserError for a token outside of `grid`."""
    for row, column in tokens:
        if not (0 <= row < grid[0] and 0 <= column < grid[1]):
            raise UserError(
                f"--coords {row} {column} lies outside: stage {stage} of this "
                f"{image.shape[1]}x{image.shape[0]} image has rows 0..{grid[0] - 1} and columns "
                f"0..{grid[1] - 1} (row first, then column)"
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


def draw(own: Request, settings: Settings, log: RunLog) -> Path:
    """Network, weights, pictures and page; returns the page."""
    image, run = read_input(own.image, own.max_side), settings.run
    world = distributed.join(run.device, run.local_rank or 0, run.dist_timeout)
    net, settings = load_hila(settings, log)
    net, arch = place(settings, net, world, log), settings.network.arch
    precision, note = resolve_precision(run.precision, world.device)
    if note:
        log.msg(note)
    top = max(topdown_stages(net)) if own.stage is None else own.stage
    if top not in topdown_stages(net):
        stages = ", ".join(map(str, topdown_stages(net)))
        raise UserError(f"--stage {top}: {arch} has top-down attention from stage {stages}")
    tokens = list(dict.fromkeys((x, y) for x, y in own.coords or [PUBLISHED_TOKEN]))
    image_size = image.shape[0], image.shape[1]
    check_tokens(tokens, grid_of(image_size, top), top, image)
    announce(log, arch, image, world.device)
    with precision.autocast():
        weights = topdown_weights(net, to_tensor(image)[None].to(world.device))
    views = [views_of(image, weights, token, top, own.image.stem) for token in tokens]
    directory = Path(run.result_dir)
    for view in (view for each in views for view in each.down + each.up):
        write_atomic(directory / FOLDER / f"{view.name}.png", encode_png(view.picture))
    page = directory / PAGE
    facts = {"image": own.image.name, "size": f"{image_size[1]}x{image_size[0]}"}
    facts |= {"arch": arch, "snapshot": Path(str(settings.network.snapshot)).name}
    write_attention_page(
        page,
        title=f"{arch} on {own.image.name}",
        image=image,
        tokens=views,
        top=top,
        grid=grid_of(image_size, top),
        facts=facts,
    )
    return page


def main(argv: Sequence[str] | None = None) -> int:
    """Draw everything; exit code 2 with one line when the input is wrong."""

    def work() -> str:
        own, settings = read_request(command_line(), argv)
        log = RunLog(Path(settings.run.result_dir), is_main=True)
        page = draw(Request(**own), settings, log)
        return f"pictures: {page.parent / FOLDER}\npage: {page}"

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())
