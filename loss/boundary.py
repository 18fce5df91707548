# SPDX-License-Identifier: Apache-2.0
"""Boundary supervision: where class boundaries are, which way is inside, scores moved there.

Source: Zhu et al., "UN-EPT: Unified Efficient Pyramid Transformer for Semantic Segmentation"
(2021), section 3.2; the directions are those of Yuan et al., "SegFix" (2020), section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from loss.cross_entropy import IGNORED
from network.outputs import DIRECTION, MASK, PRED
from runtime.errors import UserError
from transforms.boundary import ANGLE, DEGREES_PER_STEP, DEPTH, FIXED_ANGLE, HALF_TURN

BAND = 5  # pixels from the next class that count as boundary
NUM_DIRECTIONS = 8
STEPS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))  # (row, column)
ACCEPTED = 0.5  # probability above which a pixel's direction is trained; score above which it moves


def direction_classes(angle: Tensor) -> Tensor:
    """Angles in degrees, any integers, to classes 0..7 of `STEPS`: int64 of the same shape.

    Class i covers 45 degrees around -180 + 45 i, its lower end excluded; beyond 157.5 points left.
    """
    sector = 2 * HALF_TURN / NUM_DIRECTIONS
    classes = torch.ceil((angle.float() + HALF_TURN) / sector - 0.5).long()
    return torch.where(classes >= NUM_DIRECTIONS, 0, classes.clamp_min(0))


def weighted_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the pixels whose target is not `IGNORED`, class k weighted by 1 - share of k.

    logits (B, K, H, W), target (B, H, W). Zero, with a gradient of zero, if every weight is zero:
    nothing to learn, or one class only.
    """
    # Sums of comparisons: unlike a mask or bincount they do not wait for the device.
    counts = torch.stack([(target == k).sum() for k in range(logits.shape[1])]).to(logits.dtype)
    weights = 1 - counts / counts.sum().clamp_min(1)
    total = F.cross_entropy(logits, target, weights, ignore_index=IGNORED, reduction="sum")
    norm = (weights * counts).sum()
    return total / torch.where(norm > 0, norm, 1.0)


def moved_scores(scores: Tensor, mask_logits: Tensor, direction_logits: Tensor) -> Tensor:
    """Scores (B, K, H, W), at boundary pixels those of the neighbour one step to the inside.

    Neighbours beyond the image are the nearest pixel in it. The gradient goes to `scores`.
    """
    height, width = scores.shape[2:]
    is_boundary = mask_logits[:, 1] > ACCEPTED  # a logit, as published, not a probability
    table = torch.tensor(STEPS).to(scores.device, non_blocking=True)
    step = table[direction_logits.argmax(1)] * is_boundary[..., None]
    rows = torch.arange(height, device=scores.device)[:, None] + step[..., 0]
    columns = torch.arange(width, device=scores.device) + step[..., 1]
    source = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    index = source.flatten(1)[:, None].expand(-1, scores.shape[1], -1)
    return scores.flatten(2).gather(2, index).view_as(scores)


def enlarged(outputs: Mapping[str, Tensor], size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Mask and direction logits at `size` (H, W), float32.

    Raises UserError for a network without boundary heads.
    """
    if MASK not in outputs or DIRECTION not in outputs:
        raise UserError("this network has no boundary heads, which --dt_offset_wt trains")
    mask, direction = (
        F.interpolate(outputs[key].float(), tuple(size), mode="bilinear", align_corners=True)
        for key in (MASK, DIRECTION)
    )
    return mask, direction


def refined(outputs: Mapping[str, Tensor]) -> Tensor:
    """`pred` of one pass with the scores of boundary pixels moved as its heads say."""
    return moved_scores(outputs[PRED], *enlarged(outputs, outputs[PRED].shape[2:]))


@dataclass(frozen=True)
class BoundaryTargets:
    """What the boundary heads should predict: (B, H, W) int64, `IGNORED` where it is unknown.

    near: 1 within `BAND` pixels of another class. direction: 0..7, see `STEPS`.
    """

    near: Tensor
    direction: Tensor


class BoundaryLoss:
    """The three boundary terms of one batch.

    official: void pixels and padding are supervised, as in the published code, which taught that
    they are boundaries whose inside lies on the right; otherwise both terms skip them, and classes
    that make no region (background, classes too small), whose depth is 0.
    """

    def __init__(self, ignore_label: int, *, official: bool = False) -> None:
        self.ignore_label, self.official = ignore_label, official

    def targets(self, labels: Tensor, depth: Tensor, angle: Tensor) -> BoundaryTargets:
        """From labels, distances in pixels and angles in degrees, all (B, H, W) integers."""
        near = (depth <= BAND).long()
        direction = direction_classes(angle)
        if not self.official:
            unknown = (labels == self.ignore_label) | (depth == 0)
            near = near.masked_fill(unknown, IGNORED)
            direction = direction.masked_fill(unknown, IGNORED)
        return BoundaryTargets(near, direction)

    def terms(
        self, mask: Tensor, direction: Tensor, targets: BoundaryTargets
    ) -> tuple[Tensor, Tensor]:
        """Scalars (mask, direction) of logits (B, 2, H, W) and (B, 8, H, W).

        Directions are learned where the network itself sees a boundary.
        """
        seen = mask.detach().softmax(1)[:, 1] > ACCEPTED
        wanted = targets.direction.masked_fill(~seen, IGNORED)
        return (
            weighted_cross_entropy(mask, targets.near),
            weighted_cross_entropy(direction, wanted),
        )


def depth_and_angle(extras: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Distances in pixels and angles in degrees from the maps of a batch, int64 (B, H, W)."""
    stored = extras[ANGLE] if ANGLE in extras else extras[FIXED_ANGLE]
    return extras[DEPTH].long(), stored.long() * DEGREES_PER_STEP - HALF_TURN
