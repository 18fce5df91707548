# SPDX-License-Identifier: Apache-2.0
"""Whether an exported file gives what PyTorch gives, on a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from datasets.base import read_image
from datasets.synthetic_scene import render
from deploy.graph import ExportGraph
from runtime.errors import UserError

Size = tuple[int, int]
Picture = npt.NDArray[np.uint8]
Run = Callable[[Picture], npt.NDArray[Any]]  # (H, W, 3) -> ids (H, W) or scores (K, H, W)

MOST = 1e-4  # share of the pixels whose class may differ: float noise at equal scores
SCENE, SCENE_SEED = "synthetic street scene", (0, 0)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A comparison on one picture, as model.json keeps it.

    differing: of `pixels`, those of another class. largest_difference: between scores, of a graph
    of ids the lead that the class of PyTorch has over the other one, at the pixels that differ.
    """

    image: str
    size: Size
    pixels: int
    differing: int
    largest_difference: float

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{self.image} at {width}x{height}: {self.differing} of {self.pixels} pixels differ "
            f"from PyTorch ({100 * self.differing / self.pixels:.4f} %), largest difference "
            f"{self.largest_difference:.2g}"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain entries."""
        return {**asdict(self), "size": list(self.size)}


def picture(path: Path | None, size: Size) -> tuple[str, Picture]:
    """What an export is compared on, at `size`: a file, or a scene that is drawn; and its name."""
    if path is None:
        return SCENE, render(SCENE_SEED, *size)[0]
    image = read_image(path)
    if image.shape[:2] != size:
        image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    return path.name, image


@torch.no_grad()
def compare(graph: ExportGraph, run: Run, name: str, image: Picture) -> Check:
    """`run` of an exported file against `graph` in PyTorch, on `image` (H, W, 3)."""
    scores = graph.scores(torch.from_numpy(image)[None])
    want = graph.ids(scores)[0].numpy()
    got = run(image)
    if graph.output == "scores":
        largest = float(np.abs(got - scores[0].numpy()).max())
        ids = torch.from_numpy(got).argmax(0).numpy()
        differs = ids != want
    else:
        differs = got != want
        rows, columns = np.nonzero(differs)
        own, other = want[differs].astype(int), got[differs].astype(int)
        leads = scores[0, own, rows, columns] - scores[0, other, rows, columns]
        largest = float(leads.max()) if len(leads) else 0.0
    return Check(
        image=name,
        size=(image.shape[0], image.shape[1]),
        pixels=differs.size,
        differing=int(differs.sum()),
        largest_difference=largest,
    )


def require_same(checks: Sequence[Check]) -> None:
    """Raise UserError if more than MOST of the pixels differ in any of `checks`."""
    for check in checks:
        if not check.differing <= MOST * check.pixels:
            raise UserError(
                f"the export does not do what PyTorch does, and nothing was written: {check}; "
                f"at most {100 * MOST:g} % may differ"
            )
