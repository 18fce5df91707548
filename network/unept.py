# SPDX-License-Identifier: Apache-2.0
"""UN-EPT: pixel queries that gather context from three feature levels, two trunks.

Source: Zhu et al., "UN-EPT: Unified Efficient Pyramid Transformer for Semantic Segmentation",
ICCV workshop 2021.
"""

from __future__ import annotations

import dataclasses
import math

import torch.nn.functional as F
from torch import Tensor, nn

from network.arch import Arch
from network.backbones.deit import DeiT as DeiTTrunk
from network.backbones.resnet_v1c import ResNetV1c
from network.contract import OneScale
from network.heads.boundary import SpatialBranch, direction_head, mask_head
from network.heads.deformable import ContextBranch
from network.ops.contiguous import contiguous_gradient
from network.ops.conv import conv
from network.ops.resize import Size, parts_of, resize, same_size, size_of
from network.outputs import DIRECTION, MASK, PRED, Maps, single_scale_outputs
from runtime.errors import UserError
from settings.model import ModelConfig

OPTIONS = frozenset({"align_corners", "grad_ckpt", "pretrained", "query_grid", "batch_attention"})

STRIDE = 8  # of the queries
SMALLEST = 16  # pixels a side: one patch of DeiT
BATCH_ATTENTION = ("never", "training", "always")
QUERIES = "query_embed.weight"


def cells_of(size: Size) -> Size:
    """Rows and columns of queries for an image of `size`."""
    height, width = size
    return parts_of(height, STRIDE), parts_of(width, STRIDE)


def cut(x: Tensor, size: Size) -> Tensor:
    """The upper left part of (B, C, H, W)."""
    return x[..., : size[0], : size[1]]


class UNEPT(OneScale):
    """One query for every cell of stride 8, refined by the context of all of the image.

    `backbone` gives three maps; `grid` (rows, columns) is that of the learned query vectors,
    which are resampled for images with another number of cells. `mix_batch`: whether the
    images of a batch attend to each other, `never`, in `training` or `always`.
    `trains_boundary`: the boundary heads take part in training; else they keep their weights.
    """

    auxiliary_parts = ()
    boundary_parts = ("mask_head", "dir_head")
    backbone: ResNetV1c | DeiTTrunk

    def __init__(
        self,
        backbone: ResNetV1c | DeiTTrunk,
        num_classes: int,
        context: ContextBranch,
        *,
        grid: Size = (60, 60),
        mix_batch: str = "never",
        align_corners: bool = False,
        trains_boundary: bool = False,
    ) -> None:
        width = context.level_embed.shape[1]
        super().__init__(backbone, feature_channels=width, align_corners=align_corners)
        self.trains_boundary, self.grid, self.mix_batch = trains_boundary, grid, mix_batch
        self.multiple = max(STRIDE, *backbone.strides)
        self.layers = nn.ModuleList(nn.Conv2d(count, width, 1) for count in backbone.channels)
        self.spatial_branch = SpatialBranch(width)
        self.query_embed = nn.Embedding(grid[0] * grid[1], width)
        self.context_branch = context
        self.cls = conv(width, num_classes, 1, bias=True)
        self.mask_head, self.dir_head = mask_head(width), direction_head(width)
        for head in (self.mask_head, self.dir_head):
            head.requires_grad_(trains_boundary)  # parameters without gradient would stop DDP

    def query_vectors(self, size: Size) -> Tensor:
        """(rows * columns, C): the learned vectors for a grid of `size`, bilinear between."""
        vectors: Tensor = self.query_embed.weight
        if same_size(size, self.grid):
            return vectors
        maps = vectors.T.unflatten(1, self.grid)[None]
        return resize(maps, size)[0].flatten(1).T

    def levels(self, images: Tensor) -> list[Tensor]:
        """The three maps that the context branch reads, (B, C, h, w) each."""
        maps = self.backbone(images)
        return [reduce(x) for reduce, x in zip(self.layers, maps, strict=True)]

    def queries(self, spatial: Tensor) -> Tensor:
        """(B, Q, C) from the map of the spatial branch."""
        return spatial.flatten(2).transpose(1, 2) + self.query_vectors(size_of(spatial))

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        """Maps at stride 8: ceil(H / 8) x ceil(W / 8) cells."""
        return self.cell_maps(images)

    def cell_maps(self, images: Tensor, *, boundary: bool = False) -> Maps:
        """As `one_pass`.

        The boundary heads run where they are trained, and in eval mode if `boundary` or
        `boundary_in_eval` asks.
        """
        cells = cells_of(size_of(images))
        images = self.padded(images)
        levels = self.levels(images)
        spatial = contiguous_gradient(self.spatial_branch(images))
        grid = size_of(spatial)
        mixed = self.mix_batch == "always" or (self.mix_batch == "training" and self.training)
        refined = self.context_branch(levels, self.queries(spatial), grid, mixed)
        feats = refined.transpose(1, 2).unflatten(2, grid)
        maps = Maps(logits=cut(self.cls(feats), cells), feats=cut(feats, cells))
        trained = self.training and self.trains_boundary
        asked = boundary or (self.boundary_in_eval and not self.training)
        if not (trained or asked):
            return maps
        mask, direction = self.mask_head(spatial), self.dir_head(spatial)
        return dataclasses.replace(maps, mask=cut(mask, cells), direction=cut(direction, cells))

    def padded(self, images: Tensor) -> Tensor:
        """`images` with zeros (the mean colour) below and right, to a multiple in both sides."""
        height, width = size_of(images)
        if min(height, width) < SMALLEST:
            raise UserError(
                f"an image of {height}x{width} pixels is too small for UN-EPT: "
                f"{SMALLEST}x{SMALLEST} or more"
            )
        return F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        """`pred`; in training and with `return_all` also `mask` and `dir`, at stride 8."""
        height, width = size_of(images)
        whole = self.padded(self.own_inputs(images))
        maps = self.cell_maps(whole, boundary=return_all)
        outputs = single_scale_outputs(
            maps, whole, training=self.training, align_corners=self.align_corners
        )
        cells = cells_of((height, width))
        sizes = {PRED: (height, width), MASK: cells, DIRECTION: cells}
        return {key: cut(value, sizes[key]) for key, value in outputs.items()}

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """`state` itself; UserError for query vectors of a grid that is not that of the network.

        A file has only their number; the published grids are square.
        """
        count = len(state[QUERIES]) if QUERIES in state else self.grid[0] * self.grid[1]
        if count != self.grid[0] * self.grid[1]:
            raise UserError(_other_grid(count, self.grid))
        return state


def _other_grid(count: int, grid: Size) -> str:
    side = math.isqrt(count)
    own = f"{QUERIES} has {count} rows, the grid of this network is {grid[0]}x{grid[1]}"
    if side * side == count:
        return f"{own}: use --set MODEL.query_grid={side},{side}"
    return f"{own} and no square has {count}: give --set MODEL.query_grid=ROWS,COLUMNS of the file"


def _network(backbone: ResNetV1c | DeiTTrunk, num_classes: int, model: ModelConfig) -> UNEPT:
    if min(model.query_grid) < 1:
        raise UserError(f"query_grid={model.query_grid}: two positive numbers wanted, as 60,60")
    if model.batch_attention not in BATCH_ATTENTION:
        known = ", ".join(BATCH_ATTENTION)
        raise UserError(f"batch_attention={model.batch_attention} is unknown; there are {known}")
    return UNEPT(
        backbone,
        num_classes,
        ContextBranch(),
        grid=model.query_grid,
        mix_batch=model.batch_attention,
        align_corners=model.align_corners,
        trains_boundary=model.boundary_heads,
    )


def _r50(num_classes: int, model: ModelConfig) -> UNEPT:
    return _network(ResNetV1c(grad_ckpt=model.grad_ckpt), num_classes, model)


def _deit(num_classes: int, model: ModelConfig) -> UNEPT:
    rows, columns = model.query_grid
    grid = math.ceil(rows * STRIDE / DeiTTrunk.patch), math.ceil(columns * STRIDE / DeiTTrunk.patch)
    return _network(DeiTTrunk(grid, grad_ckpt=model.grad_ckpt), num_classes, model)


# Numbers of parameters are those with 150 classes and 60x60 queries.
ARCHS = {
    "R50": Arch("ResNet-50 v1c at stride 8: 32,357,942 parameters", _r50, OPTIONS),
    "DeiT": Arch("distilled DeiT-B: 94,842,326 parameters", _deit, OPTIONS),
}
