# SPDX-License-Identifier: Apache-2.0
"""What inter-level attention costs: HILA B1 S(2,3,4) against plain B1, both in two forms.

    python -m benchmarks.hila --quick                # 128x128
    python -m benchmarks.hila                        # 512x512, about a minute

As published, windows are unfolded first and every copy of a token is projected, and the head
joins four full-size maps before its fusion. Here each token is projected at most once, without
copies, and the head fuses every level at its own size; so both networks got faster, the plain
one by more. One thread. Promised: HILA at most 1.6 of the plain network as published (the
published HILA needs about 2.25), with no more memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import measure, print_table
from benchmarks.program import largest_share, make_parser
from network.build import build_net
from network.heads.segformer import SegFormerHead
from network.ops.init import init_transformer
from network.ops.inter_level import BottomUpAttention, TopDownAttention
from network.ops.resize import concat_resized

NUM_CLASSES = 19
SIDES = {  # name -> arch, whether in the published form
    "plain, as published": ("segformer.B1", True),
    "HILA, as published": ("hila.B1_S234", True),
    "plain, ours": ("segformer.B1", False),
    "HILA, ours": ("hila.B1_S234", False),
}


class PublishedHead(SegFormerHead):
    """Project, resize, join, fuse: one after the other."""

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """As `SegFormerHead.forward`."""
        levels = []
        for level, feature in enumerate(features, start=1):
            proj = self.get_submodule(f"linear_c{level}.proj")
            levels.append(proj(feature.flatten(2).transpose(1, 2)).transpose(1, 2))
            levels[-1] = levels[-1].unflatten(2, feature.shape[2:])
        joint = concat_resized(levels, self.align_corners)
        order = torch.cat(self.linear_fuse.conv.weight.chunk(self.levels, dim=1)[::-1], dim=1)
        feats = self.linear_fuse.relu(self.linear_fuse.bn(F.conv2d(joint, order)))
        return self.linear_pred(self.dropout(feats)), feats


def unfolded(bottom: Tensor, patch: int) -> Tensor:
    """(B, H, W, C) -> the children of every parent, copied: (B * h * w, patch^2, C)."""
    channels = bottom.shape[-1]
    windows = F.unfold(bottom.permute(0, 3, 1, 2), patch, padding=(patch - 1) // 2, stride=2)
    return windows.unflatten(1, (channels, -1)).permute(0, 3, 2, 1).flatten(0, 1)


class PublishedBottomUp(BottomUpAttention):
    """Keys and values of all copies of a child."""

    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        """As `BottomUpAttention.forward`, for one head and even sizes."""
        key, value = self.kv(unfolded(bottom, self.patch)).chunk(2, dim=-1)
        query = self.q(top).flatten(0, 2).unsqueeze(1)
        scores = self.scale * query @ key.transpose(1, 2)
        scores = scores + self.relative_position_init + self.relative_position_bias_table
        return self.proj(scores.softmax(dim=-1) @ value).view(top.shape)


class PublishedTopDown(TopDownAttention):
    """Queries of all copies of a child; exponentials are summed by folding them back."""

    def forward(self, bottom: Tensor, top: Tensor) -> Tensor:
        """As `TopDownAttention.forward`, for one head and even sizes."""
        batch, parents, size = top.shape[0], top.shape[1] * top.shape[2], bottom.shape[1:3]
        fold = partial(
            F.fold,
            output_size=size,
            kernel_size=self.patch,
            padding=(self.patch - 1) // 2,
            stride=2,
        )
        unfold = partial(F.unfold, kernel_size=self.patch, padding=(self.patch - 1) // 2, stride=2)
        key, value = self.kv(top.flatten(0, 2)).unsqueeze(1).chunk(2, dim=-1)
        scores = self.scale * (self.q(unfolded(bottom, self.patch)) * key).sum(dim=-1)
        scores = scores + self.relative_position_init + self.relative_position_bias_table
        each = scores.exp().view(batch, parents, -1).transpose(1, 2)
        weights = each / unfold(fold(each))
        parts = weights.transpose(1, 2).reshape(-1, self.patch**2, 1) * value
        joined = parts.view(batch, parents, self.patch**2, -1).permute(0, 3, 2, 1).flatten(1, 2)
        return self.proj(fold(joined).permute(0, 2, 3, 1))


FORMS = {
    SegFormerHead: PublishedHead,
    BottomUpAttention: PublishedBottomUp,
    TopDownAttention: PublishedTopDown,
}


def build(name: str) -> nn.Module:
    """One side in eval mode, with random weights of some size; one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    arch, as_published = SIDES[name]
    net = build_net(arch, NUM_CLASSES)
    init_transformer(net)
    for module in list(net.modules()):
        if as_published and type(module) in FORMS:
            module.__class__ = FORMS[type(module)]
    return net.eval()


def draw(side: int) -> Tensor:
    """An image (1, 3, side, side)."""
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def forward(net: nn.Module, image: Tensor) -> Tensor:
    """Scores (1, K, side, side)."""
    pred: Tensor = net(image)["pred"]
    return pred


def make_side(name: str, side: int) -> Callable[[], Tensor]:
    """One side ready to be called; a small image has been through it already."""
    net = build(name)
    forward(net, draw(64))
    return partial(forward, net, draw(side))


def compare(side: int = 64) -> float:
    """Largest difference of the two forms of HILA, as a share of the largest score."""
    want, got = (forward(build(f"HILA, {form}"), draw(side)) for form in ("as published", "ours"))
    return largest_share(want, got)


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--side", type=int, default=512, help="side of the square image")
    parser.add_argument("--quick", action="store_true", help="128x128")
    args = parser.parse_args()
    side = 128 if args.quick else args.side
    print(f"largest difference {compare():.1e} of the largest score")
    rows = measure(make_side, SIDES, side, rounds=args.rounds)
    print_table(f"B1 and HILA B1 S(2,3,4), {side}x{side}, one thread (limits 1.6 and 1)", rows)


if __name__ == "__main__":
    main()
