# SPDX-License-Identifier: Apache-2.0
"""A page that shows where UN-EPT looks, and the boundaries it predicts, on one image.

    python -m tools.deformable --snapshot best_checkpoint.pth --image street.png \
        --coords 120 80 --coords 300 200
    python -m tools.deformable --arch unept.R50 --snapshot iter_160000.pth --image a.jpg \
        --coords 120 80 --result_dir looks

Every X Y, a pixel of the image counted from 0, column first, chooses the query of its cell; for
each of them the page has the sampling points and weights of every decoder layer. Other flags are
those of eval.py: a checkpoint of this program knows its network; for other files give --arch, and
--set MODEL.query_grid=ROWS,COLUMNS if their grid of queries is not square.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
from network.heads.deformable import DeformableAttention
from network.outputs import DIRECTION, MASK
from network.unept import STRIDE, UNEPT
from reports.files import encode_png
from reports.render import write_html
from reports.sampling import LEVEL_COLOURS, Picture, Sampling, draw_directions, draw_sampling
from runtime import distributed
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.precision import resolve_precision
from runtime.runlog import RunLog
from settings import Parser, Settings
from settings.convert import number
from settings.ranges import FRACTION
from transforms.normalize import to_tensor

PAGE = "deformable.html"


class SamplingTap:
    """Remembers what an attention was asked, and answers where some of its queries looked."""

    def __init__(self, attention: DeformableAttention) -> None:
        self.attention = attention
        self.inputs: tuple[Any, ...] = ()
        attention.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.inputs = inputs

    def sampling(self, query: int) -> Sampling:
        """Of the query with that number in the first image."""
        queries, references, _, shapes = self.inputs
        asked = slice(query, query + 1)
        places, weights = self.attention.sampling(queries[:1, asked], references[asked], shapes)
        x, y = references[query].tolist()
        return Sampling(
            query=(x, y),
            places=places[0, 0].float().cpu().numpy(),
            weights=weights[0, 0].float().cpu().numpy(),
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for: an image, pixels (x, y), a probability of boundaries."""

    image: Path
    max_side: int | None
    coords: Sequence[tuple[int, int]]
    threshold: float


def load_unept(settings: Settings, log: RunLog) -> tuple[UNEPT, Settings, bool]:
    """The network in eval mode, its settings, and whether its boundary heads were trained.

    UserError for any other architecture.
    """
    snapshot = read_weights(settings)
    if not snapshot.facts and "arch" not in settings.given:
        raise UserError(f"{snapshot.path} does not say which network it holds: give --arch")
    net, settings = load_network(settings, snapshot, log)
    if not isinstance(net, UNEPT):
        raise UserError(
            f"--arch {settings.network.arch} has no deformable attention: unept.R50 and "
            "unept.DeiT have"
        )
    published = {"boundary_heads": True}  # trained in the published files
    options = snapshot.facts.get("model_options", published)
    return net, settings, bool(options.get("boundary_heads", False))


def query_of(point: tuple[int, int], size: tuple[int, int], columns: int) -> int:
    """Number of the query whose cell holds the pixel (x, y); UserError outside of the image."""
    (x, y), (height, width) = point, size
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f"--coords {x} {y} is outside of the image of {width}x{height} pixels")
    return y // STRIDE * columns + x // STRIDE


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The image as the network sees it, black below and right, and how much of it is shown."""

    whole: Picture
    size: tuple[int, int]
    out: Path

    @classmethod
    def of(cls, image: Picture, multiple: int, out: Path) -> Canvas:
        """For a network that pads images to a multiple of so many pixels."""
        height, width = image.shape[:2]
        padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
        return cls(whole=np.pad(image, padding), size=(height, width), out=out)

    def layer(self, name: str, title: str, sampling: Sampling) -> dict[str, object]:
        """Draw one query in one layer into the file `name`; what the page says about it."""
        picture = draw_sampling(self.whole, sampling, self.size)
        write_atomic(self.out / name, encode_png(picture))
        return {
            "file": name,
            "title": title,
            "shares": [_percent(share) for share in sampling.level_shares()],
            "outside": _percent(sampling.outside()),
            "largest": f"{100 * float(sampling.weights.max()):.1f} %",
        }

    def directions(self, outputs: dict[str, Tensor], threshold: float) -> dict[str, str]:
        """Draw the predicted boundaries; what the page says about them."""
        near = outputs[MASK][0].float().softmax(0)[1].cpu().numpy()
        direction = outputs[DIRECTION][0].argmax(0).cpu().numpy()
        picture = draw_directions(self.whole, near, direction, self.size, threshold)
        write_atomic(self.out / "directions.png", encode_png(picture))
        return {
            "threshold": _percent(threshold),
            "near": _percent(float((near > threshold).mean())),
        }


def make_page(
    net: UNEPT,
    image: Picture,
    points: Sequence[tuple[int, int]],
    out: Path,
    *,
    title: str,
    threshold: float | None = 0.5,
) -> Path:
    """Run the network on `image`, uint8 (H, W, 3) RGB, and write pictures and page into `out`.

    `threshold`: probability from which a boundary is shown; None leaves boundaries out.
    """
    layers = [layer.cross_attn for layer in net.context_branch.decoder.layers]
    taps = [SamplingTap(layer) for layer in layers if isinstance(layer, DeformableAttention)]
    canvas = Canvas.of(image, net.multiple, out)
    columns = canvas.whole.shape[1] // STRIDE
    numbers = [query_of(point, canvas.size, columns) for point in points]
    with torch.inference_mode():
        outputs = net(to_tensor(image)[None].to(net.cls.weight.device), return_all=True)
        samplings = [[tap.sampling(number) for tap in taps] for number in numbers]
    queries = []
    for (x, y), of_layers in zip(points, samplings, strict=True):
        pictures = [
            canvas.layer(f"query_{x}_{y}_layer{n}.png", f"decoder layer {n}", sampling)
            for n, sampling in enumerate(of_layers, 1)
        ]
        queries.append({"title": f"Pixel x {x}, y {y}", "pictures": pictures})
    write_html(
        out / PAGE,
        "deformable.html.j2",
        title=title,
        subtitle=f"{len(points)} queries, an image of {image.shape[1]}x{image.shape[0]} pixels",
        queries=queries,
        colours=[f"rgb{colour}" for colour in LEVEL_COLOURS],
        boundary=None if threshold is None else canvas.directions(outputs, threshold),
    )
    return out / PAGE


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = inspection_parser(
        "tools.deformable", "where UN-EPT looks, and the boundary directions it predicts"
    )
    parser.add_argument(
        "--coords",
        type=int,
        nargs=2,
        action="append",
        required=True,
        metavar=("X", "Y"),
        help="pixel whose query is shown, column first (tokens of tools.attention are row "
        "first); may stand several times",
    )
    parser.add_argument(
        "--threshold", type=number(float, FRACTION), default=0.5, help="boundary probability shown"
    )
    return parser


def draw(own: Request, settings: Settings, log: RunLog) -> Path:
    """Network, pictures and page; returns the page."""
    image, run = read_input(own.image, own.max_side), settings.run
    world = distributed.join(run.device, run.local_rank or 0, run.dist_timeout)
    net, settings, has_boundaries = load_unept(settings, log)
    place(settings, net, world, log)  # moves it in place
    precision, note = resolve_precision(run.precision, world.device)
    if note:
        log.msg(note)
    points = list(dict.fromkeys((x, y) for x, y in own.coords))
    for point in points:
        query_of(point, (image.shape[0], image.shape[1]), 1)  # before the long pass
    announce(log, settings.network.arch, image, world.device)
    with precision.autocast():
        return make_page(
            net,
            image,
            points,
            Path(run.result_dir),
            title=f"Deformable attention: {own.image.name}",
            threshold=own.threshold if has_boundaries else None,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit code 2 for a file, a network or a place that does not fit."""

    def work() -> str:
        own, settings = read_request(command_line(), argv)
        log = RunLog(Path(settings.run.result_dir), is_main=True)
        return f"page: {draw(Request(**own), settings, log)}"

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())
