# SPDX-License-Identifier: Apache-2.0
"""SegFormer-B1, forward and training step, against Hugging Face transformers of equal weights.

    python -m benchmarks.segformer --quick           # 128x128
    python -m benchmarks.segformer                   # 512x512, about two minutes

Needs `pip install ".[dev]"`. One thread. Ours ends with the scores at the size of the image,
the other side with those at a quarter of it. Promised: at most 0.9 of the time of a forward pass
at 512 x 512, and no more than the whole of a training step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import measure, print_table
from benchmarks.program import largest_share, make_parser
from network.backbones.mit import HEADS, REDUCTIONS, SIZES
from network.build import build_net
from network.contract import OneScale

NUM_CLASSES = 19
REFERENCE, OURS = "transformers", "ours"
RENAMED = (  # ours -> theirs, in this order
    ("decode_head.linear_fuse.conv.", "decode_head.linear_fuse."),
    ("decode_head.linear_fuse.bn.", "decode_head.batch_norm."),
    ("decode_head.linear_pred.", "decode_head.classifier."),
    (".attn.proj.", ".attention.o_proj."),
    (".attn.q.", ".attention.q_proj."),
    (".attn.sr.", ".attention.sequence_reduction.sequence_reduction."),
    (".attn.norm.", ".attention.sequence_reduction.layer_norm."),
)


def _their_stage_name(name: str) -> str:
    """`block2.0.norm1.weight` -> `segformer.stages.1.blocks.0.layernorm_before.weight`."""
    part, _, rest = name.partition(".")
    stage = f"segformer.stages.{int(part[-1]) - 1}."
    if part.startswith("patch_embed"):
        return f"{stage}patch_embeddings.{rest.replace('norm.', 'layer_norm.')}"
    if part.startswith("norm"):
        return f"{stage}layer_norm.{rest}"
    rest = rest.replace(".norm1.", ".layernorm_before.").replace(".norm2.", ".layernorm_after.")
    return f"{stage}blocks.{rest}"


def their_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights of our network under the names of transformers."""
    found = {}
    for key, value in net.state_dict().items():
        name = key
        for ours, theirs in RENAMED:
            name = name.replace(ours, theirs)
        if name.startswith("backbone."):
            name = _their_stage_name(name.removeprefix("backbone."))
        elif name.startswith("decode_head.linear_c"):
            level, rest = name.removeprefix("decode_head.linear_c").split(".", 1)
            name = f"decode_head.linear_projections.{int(level) - 1}.{rest}"
        if ".attn.kv." in name:
            head, kind = name.split(".attn.kv.")
            for part, half in zip(("k", "v"), value.chunk(2), strict=True):
                found[f"{head}.attention.{part}_proj.{kind}"] = half
        else:
            found[name] = value
    return found


def build_reference(net: nn.Module, size: str) -> nn.Module:
    """The network of transformers with the weights of ours."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=list(SIZES[size].channels),
        depths=list(SIZES[size].depths),
        num_attention_heads=list(HEADS),
        sr_ratios=list(REDUCTIONS),
        decoder_hidden_size=SIZES[size].head_width,
        num_labels=NUM_CLASSES,
        semantic_loss_ignore_index=255,
    )
    reference = SegformerForSemanticSegmentation(config)
    reference.load_state_dict(their_weights(net))
    return reference


def build(name: str, size: str) -> nn.Module:
    """One side with the same random weights, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    ours = build_net(f"segformer.{size}", NUM_CLASSES)
    return build_reference(ours, size) if name == REFERENCE else ours


def draw(side: int) -> tuple[Tensor, Tensor]:
    """An image (1, 3, side, side) and a label (1, side, side)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, side, side, generator=generator)
    return image, torch.randint(0, NUM_CLASSES, (1, side, side), generator=generator)


@torch.inference_mode()
def forward(name: str, net: nn.Module, image: Tensor) -> Tensor:
    """Scores, (1, K, H, W) or of a quarter of the size."""
    scores: Tensor = net(image).logits if name == REFERENCE else net(image)["pred"]
    return scores


def step(name: str, net: nn.Module, optimizer: Any, image: Tensor, label: Tensor) -> None:
    """Forward, loss, backward, update."""
    if name == REFERENCE:
        loss = net(image, labels=label).loss
    else:
        loss = F.cross_entropy(net(image)["pred"], label, ignore_index=255)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def make_forward(name: str, size: str, side: int) -> Callable[[], object]:
    """One side ready to be called; a small image has been through it already."""
    net = build(name, size).eval()
    forward(name, net, draw(64)[0])
    return partial(forward, name, net, draw(side)[0])


def make_step(name: str, size: str, side: int) -> Callable[[], object]:
    """One training step of a side, likewise."""
    net = build(name, size).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=6e-5)
    step(name, net, optimizer, *draw(64))
    return partial(step, name, net, optimizer, *draw(side))


def compare(size: str) -> float:
    """Largest difference of the two sides' scores, as a share of the largest score."""
    image = draw(64)[0]
    ours = build(OURS, size).eval()
    assert isinstance(ours, OneScale)
    reference = build_reference(ours, size).eval()
    with torch.inference_mode():
        want = reference(image).logits
        got = ours.maps(image).logits
    return largest_share(want, got)


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--size", default="B1", choices=SIZES, help="size of the network")
    parser.add_argument("--side", type=int, default=512, help="side of the square image")
    parser.add_argument("--quick", action="store_true", help="128x128")
    args = parser.parse_args()
    side = 128 if args.quick else args.side
    print(f"largest difference {compare(args.size):.1e} of the largest score")
    for title, limit, maker in (("forward", 0.9, make_forward), ("training step", 1.0, make_step)):
        rows = measure(maker, (REFERENCE, OURS), args.size, side, rounds=args.rounds)
        print_table(f"SegFormer-{args.size} {title}, {side}x{side}, one thread", rows, limit)


if __name__ == "__main__":
    main()
