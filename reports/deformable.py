# SPDX-License-Identifier: Apache-2.0
"""A page that shows where UN-EPT looks, and the boundaries it predicts, on one picture.

    python -m reports.deformable --snapshot best_checkpoint.pth --image street.png \
        --coords 120 80 --coords 300 200
    python -m reports.deformable --arch unept.R50 --snapshot iter_160000.pth --image a.jpg \
        --coords 120 80 --result_dir looks

Every X Y in pixels of the picture chooses the query of its cell; for each of them the page has the
sampling points and weights of every decoder layer. A checkpoint of this program knows its network;
for other files give --arch, and --query_grid if its grid of queries is not square.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from config import UserError, wrong_input
from datasets.base import read_image
from flags import Parser
from flags.values import fraction
from network.build import build_net
from network.convert import load_official, read_checkpoint
from network.convert.checkpoint import split_weights
from network.heads.deformable import DeformableAttention
from network.outputs import DIRECTION, MASK
from network.unept import QUERIES, STRIDE, UNEPT
from reports.files import encode_png
from reports.render import write_html
from reports.sampling import LEVEL_COLOURS, Sampling, draw_directions, draw_sampling
from runtime.files import write_atomic
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
        """Of the query with that number in the first picture."""
        queries, references, _, shapes = self.inputs
        chosen = slice(query, query + 1)
        places, weights = self.attention.sampling(queries[:1, chosen], references[chosen], shapes)
        x, y = references[query].tolist()
        return Sampling(
            query=(x, y),
            places=places[0, 0].float().numpy(),
            weights=weights[0, 0].float().numpy(),
        )


def load_network(path: str, arch: str, grid: tuple[int, int] | None) -> UNEPT:
    """The network of a checkpoint in eval mode; UserError for any other architecture."""
    content = read_checkpoint(path)
    state, facts = split_weights(content)
    named = str(facts.get("arch", "")) or arch
    if not named:
        raise UserError(f"{path} does not say which network it holds: give --arch")
    if arch and arch.removeprefix("network.") != named:
        raise UserError(f"{path} holds {named}, not --arch {arch}; leave --arch out")
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    if QUERIES not in plain or "cls.weight" not in plain:
        raise UserError(f"{path}: no weights of UN-EPT ({QUERIES} is missing)")
    options = {**facts.get("model_options", {}), "pretrained": ""}
    side = math.isqrt(len(plain[QUERIES]))
    if grid is not None or ("model_options" not in facts and side * side == len(plain[QUERIES])):
        options["query_grid"] = grid or (side, side)
    net = build_net(named, len(plain["cls.weight"]), **options)
    if not isinstance(net, UNEPT):
        raise UserError(
            f"--arch {named} has no deformable attention: unept.R50 and unept.DeiT have"
        )
    load_official(net, content, title=path)
    return net.eval()


def query_of(point: tuple[int, int], size: tuple[int, int], columns: int) -> int:
    """Number of the query whose cell holds the pixel (x, y); UserError outside of the picture."""
    (x, y), (height, width) = point, size
    if not (0 <= x < width and 0 <= y < height):
        raise UserError(f"--coords {x} {y} is outside of the picture of {width}x{height} pixels")
    return y // STRIDE * columns + x // STRIDE


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _layer(out: Path, name: str, title: str, image: Any, sampling: Sampling) -> dict[str, object]:
    """Draw one query in one layer into `name`; what the page says about it."""
    write_atomic(out / name, encode_png(draw_sampling(image, sampling)))
    shares = [_percent(share) for share in sampling.level_shares()]
    return {
        "file": name,
        "title": title,
        "shares": shares,
        "outside": _percent(sampling.outside()),
        "largest": f"{100 * float(sampling.weights.max()):.1f} %",
    }


def padded_image(image: Any, multiple: int) -> Any:
    """The picture as the network sees it, black below and right up to a multiple."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, -height % multiple), (0, -width % multiple), (0, 0)))


def make_page(
    net: UNEPT,
    image: Any,
    points: Sequence[tuple[int, int]],
    out: Path,
    *,
    title: str,
    threshold: float = 0.5,
) -> Path:
    """Run the network on `image`, uint8 (H, W, 3) RGB, and write pictures and page into `out`."""
    layers = [layer.cross_attn for layer in net.context_branch.decoder.layers]
    taps = [SamplingTap(layer) for layer in layers if isinstance(layer, DeformableAttention)]
    whole = padded_image(image, net.multiple)
    columns = whole.shape[1] // STRIDE
    numbers = [query_of(point, image.shape[:2], columns) for point in points]
    with torch.inference_mode():
        outputs = net(to_tensor(image)[None], return_all=True)
        looks = [[tap.sampling(number) for tap in taps] for number in numbers]
    queries = []
    for (x, y), samplings in zip(points, looks, strict=True):
        pictures = [
            _layer(out, f"query_{x}_{y}_layer{n}.png", f"decoder layer {n}", whole, sampling)
            for n, sampling in enumerate(samplings, 1)
        ]
        queries.append({"title": f"Pixel {x}, {y}", "pictures": pictures})
    near, direction = _boundary(outputs)
    write_atomic(
        out / "directions.png",
        encode_png(draw_directions(whole, near, direction, threshold)),
    )
    write_html(
        out / PAGE,
        "deformable.html.j2",
        title=title,
        subtitle=f"{len(points)} queries, a picture of {image.shape[1]}x{image.shape[0]} pixels",
        queries=queries,
        colours=[f"rgb{colour}" for colour in LEVEL_COLOURS],
        threshold=_percent(threshold),
        near=_percent(float((near > threshold).mean())),
    )
    return out / PAGE


def _boundary(outputs: dict[str, Tensor]) -> tuple[Any, Any]:
    """Probability of a boundary and direction class of every cell, (h, w)."""
    near = outputs[MASK][0].softmax(0)[1].numpy()
    return near, outputs[DIRECTION][0].argmax(0).numpy()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m reports.deformable",
        allow_abbrev=False,
        description="where UN-EPT looks, and the boundary directions it predicts",
    )
    add = parser.add_argument
    add("--snapshot", required=True, help="checkpoint of unept.R50 or unept.DeiT")
    add("--image", type=Path, required=True, metavar="PICTURE", help="the picture")
    add(
        "--coords",
        type=int,
        nargs=2,
        action="append",
        required=True,
        metavar=("X", "Y"),
        help="pixel whose query is shown; may be given several times",
    )
    add("--arch", default="", help="for files that do not say it")
    add(
        "--query_grid",
        type=int,
        nargs=2,
        metavar=("ROWS", "COLUMNS"),
        help="for files without options",
    )
    add("--threshold", type=fraction, default=0.5, help="boundary probability shown")
    add("--result_dir", type=Path, default=Path("deformable"), metavar="DIR", help="of the page")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; exit code 2 for a file, a network or a place that does not fit."""
    try:
        args = _arguments(argv)
        image = read_image(args.image)
        grid = None if args.query_grid is None else (args.query_grid[0], args.query_grid[1])
        net = load_network(args.snapshot, args.arch, grid)
        title = f"Deformable attention: {args.image.name}"
        points = [(x, y) for x, y in args.coords]
        page = make_page(net, image, points, args.result_dir, title=title, threshold=args.threshold)
    except UserError as error:
        return wrong_input(error)
    print(f"page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
