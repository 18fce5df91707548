# SPDX-License-Identifier: Apache-2.0
"""Whether an exported file gives what PyTorch gives, on a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage import data

from datasets.base import read_image
from deploy.graph import ExportGraph
from deploy.pixels import at_size
from runtime.errors import UserError
from runtime.names import printable

Size = tuple[int, int]
Picture = npt.NDArray[np.uint8]
Run = Callable[[Picture], npt.NDArray[Any]]  # (H, W, 3) -> ids (H, W) or scores (K, H, W)

MOST = 1e-4  # share of the pixels whose class may differ: float noise at equal scores
# Of the largest score: by so much two ways to compute in half precision may be apart. Each of some
# hundred layers rounds to eleven bits.
HALF_NOISE = 1e-2
PHOTO = "rocket.jpg"  # a photograph outdoors that is part of the package scikit-image


@dataclass(frozen=True, kw_only=True)
class Check:
    """A comparison on one picture, as model.json keeps it.

    differing: of `pixels`, those of another class; decided: those of them where PyTorch's own
    score of its class leads by more than `noise`, the rounding of the number format.
    largest_difference: between scores; of a graph of ids the largest such lead.
    """

    image: str
    size: Size
    pixels: int
    differing: int
    decided: int
    noise: float
    largest_difference: float

    def __str__(self) -> str:
        height, width = self.size
        rounding = f", {self.decided} of them by more than {self.noise:.2g}" if self.noise else ""
        return (
            f"{self.image} at {width}x{height}: {self.differing} of {self.pixels} pixels differ "
            f"from PyTorch ({100 * self.differing / self.pixels:.4f} %){rounding}, largest "
            f"difference {self.largest_difference:.2g}"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain entries."""
        return {**asdict(self), "size": list(self.size)}


def picture(path: Path | None, size: Size) -> tuple[str, Picture]:
    """What an export is compared on, at `size`: a file, or `PHOTO`; and its name."""
    if path is None:
        return PHOTO, at_size(data.rocket(), size)
    image = at_size(read_image(path), size)
    return " ".join(printable(path.name).splitlines()), image


@torch.no_grad()
def compare(graph: ExportGraph, run: Run, name: str, image: Picture) -> Check:
    """`run` of an exported file against `graph` in PyTorch, on `image` (H, W, 3)."""
    scores = graph.scores(torch.from_numpy(image)[None])
    want, got = graph.ids(scores)[0].numpy(), run(image)
    ids = got if graph.output == "ids" else got.argmax(0)
    rows, columns = np.nonzero(ids != want)
    own, other = want[rows, columns].astype(int), ids[rows, columns].astype(int)
    leads = (scores[0, own, rows, columns] - scores[0, other, rows, columns]).numpy()
    if graph.output == "ids":
        largest = float(leads.max(initial=0))
    else:
        largest = float(np.abs(got - scores[0].numpy()).max())
    peak = float(scores.abs().max())
    if not math.isfinite(peak):
        raise UserError(
            f"the scores of {graph.precision} are NaN or infinite on {name}: --precision fp32"
        )
    noise = HALF_NOISE * peak if graph.precision == "fp16" else 0.0
    return Check(
        image=name,
        size=(image.shape[0], image.shape[1]),
        pixels=want.size,
        differing=len(leads),
        decided=int((leads > noise).sum()) if noise else len(leads),
        noise=noise,
        largest_difference=largest,
    )


def require_same(checks: Sequence[Check]) -> None:
    """Raise UserError if more than MOST of the pixels differ beyond rounding in any of `checks`."""
    for check in checks:
        if not check.decided <= MOST * check.pixels:
            raise UserError(
                f"the export does not do what PyTorch does, and nothing was written: {check}; "
                f"at most {100 * MOST:g} % may differ"
            )
