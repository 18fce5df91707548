# SPDX-License-Identifier: Apache-2.0
"""Images at the scales of a multi-scale test, each made from the file as it was read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transforms.mmseg import Box, FitImage


def make_resizer(box: Box, size_divisor: int = 1) -> Callable[[Tensor, float], Tensor]:
    """A function (originals, ratio) -> views: uint8 (B, H, W, 3) fitted into `box` times ratio.

    The box is (long, short) in pixels; its sides times the ratio are truncated to whole pixels.
    Raises ValueError for a box that is not (long, short).
    """
    fit = FitImage(box, size_divisor)

    def views(originals: Tensor, ratio: float) -> Tensor:
        resized = [fit.resized(image, ratio) for image in originals.numpy()]
        return torch.stack([torch.from_numpy(image) for image in resized])

    return views
