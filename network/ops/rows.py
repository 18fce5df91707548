# SPDX-License-Identifier: Apache-2.0
"""Where the rows of a crop lie in the image it was cut from.

Positions are (B, H) floats: the centre of every row as a fraction of the height of the source
image, 0 at its top and 1 at its bottom, whatever its size; negative in rows of padding. They
follow scale, crop, padding, flip and windows like the pixels themselves.
"""

from __future__ import annotations

import torch
from torch import Tensor

from network.ops.resize import surely

PAD = -1.0  # position of a row of padding
STEPS = 128  # the height of an image in steps of the published code; also the value of padding
ROUNDING = 1e-3  # of a step: float noise must not move a row below the step it begins


def _at(rows: Tensor, upper: Tensor, part: Tensor) -> Tensor:
    """Positions `part` of the way from row `upper` to the next one.

    Beside padding, where there is nothing to interpolate, that of the nearer row.
    """
    first = rows[:, upper]
    second = rows[:, (upper + 1).clamp(max=rows.shape[1] - 1)]
    nearer = torch.where(part < 0.5, first, second)
    return torch.where((first < 0) | (second < 0), nearer, first + part * (second - first))


def scaled_rows(rows: Tensor | None, height: int) -> Tensor | None:
    """Positions (B, H) of a crop for a copy of the crop `height` rows high: (B, height)."""
    if rows is None or surely(rows.shape[1] == height):
        return rows
    count = rows.shape[1]
    ratio = torch.scalar_tensor(count / height, device=rows.device)
    centres = (torch.arange(height, device=rows.device) + 0.5) * ratio - 0.5
    # The outermost rows are extrapolated: an enlarged image begins above its first centre.
    upper = centres.floor().clamp(0, max(count - 2, 0)).long()
    return _at(rows, upper, (centres - upper).to(rows.dtype))


def row_steps(rows: Tensor, bins: int) -> Tensor:
    """The step, 0..127, at which each of `bins` equal parts of the crop begins; 128: padding.

    rows (B, H) -> (B, bins) int64. That is the first row of a part that lies in it by more than
    half, as the published nearest resize of the position map has it; where parts do not begin
    at a row, not less than the place where the part begins, so that a whole image of any
    height has the same steps.

    Source: Choi, Kim, Choo, "Cars Can't Fly up in the Sky" (2020), section 3.2.
    """
    height = rows.shape[1]
    begins = torch.arange(bins, device=rows.device) * torch.scalar_tensor(
        height / bins, device=rows.device
    )
    upper = (begins + ROUNDING).floor()
    part = (begins - upper - 0.5).clamp(min=0).to(rows.dtype)
    positions = _at(rows, upper.long(), part)
    steps = (positions * STEPS + ROUNDING).floor().clamp(0, STEPS - 1).long()
    return torch.where(positions < 0, STEPS, steps)
