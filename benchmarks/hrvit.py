# SPDX-License-Identifier: Apache-2.0
"""HRViT for segmentation, against the procedure as the paper writes it; and in bfloat16.

    python -m benchmarks.hrvit --quick               # b1 at 128x128: seconds
    python -m benchmarks.hrvit                       # b1 and b2 at 512x512: a minute
    python -m benchmarks.hrvit --sizes b1 --size 512,512 --num_classes 150

The reference side takes the same weights through every step of the paper on its own: tokens and
images turned into each other, stripes cut out of padded maps, a mask added to all scores, two
depthwise convolutions, resized maps concatenated at stride 4. Promised in float32 on one thread:
no slower, at most 0.8 of its peak memory. In bfloat16, on a CPU that multiplies it in hardware or
on a GPU: at least 1.5 times as fast as float32. The products gain more than twofold there, norms,
GELU and softmax nothing; `--bfloat16_of b1_UPerNet` measures any network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import measure, print_table, time_in_turn
from benchmarks.program import make_parser, print_difference
from network.backbones.hrvit import Fusion, HRViT, Stage
from network.backbones.hrvit_block import Block, CrossShapedAttention, DiversityShortcut
from network.build import build_net
from network.encoder_decoder import EncoderDecoder
from network.heads.hrvit_head import HRViTHead
from network.inference import prepare_for_inference

REFERENCE, OURS, OURS_BF16 = "the paper's steps", "ours", "ours, bfloat16"
HIDDEN = -100.0  # added to the scores of padded tokens
Size = tuple[int, int]


def build(size: str, num_classes: int) -> EncoderDecoder:
    """The network with random weights, batch norms that do something, attention included."""
    torch.manual_seed(0)
    net = build_net(f"hrvit.{size}_SegFormer", num_classes)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
    assert isinstance(net, EncoderDecoder)
    return net.eval()


def draw(size: Size) -> Tensor:
    """A smooth image, (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, 24, 24, generator=generator)
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)


def _image(tokens: Tensor, size: Size) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W), contiguous."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size).contiguous()


def _tokens(image: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C), contiguous."""
    return image.flatten(2).transpose(1, 2).contiguous()


def _stripes(query: Tensor, value: Tensor, stripe: int, heads: int) -> Tensor:
    """Attention in stripes of rows of (B, C, H, W), padded to whole stripes and masked."""
    batch, channels, height, width = query.shape
    count = math.ceil(height / stripe)
    missing = count * stripe - height

    def partition(x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, missing))
        x = x.reshape(batch, heads, channels // heads, count, stripe * width)
        return x.permute(0, 3, 1, 4, 2).reshape(batch * count, heads, stripe * width, -1)

    windows, keys = partition(query), partition(value)
    scores = windows @ keys.transpose(-1, -2) * windows.shape[-1] ** -0.5
    if missing:
        hidden = torch.zeros(count, stripe * width)
        hidden[-1, (stripe - missing) * width :] = 1
        either = (hidden[:, :, None] + hidden[:, None, :]).clamp(max=1) * HIDDEN
        scores = scores + either.repeat(batch, 1, 1)[:, None]
    result = (scores.softmax(-1) @ keys).reshape(batch, count, heads, stripe, width, -1)
    result = result.permute(0, 2, 5, 1, 3, 4).reshape(batch, channels, count * stripe, width)
    return result[:, :, :height]


def _attention(layer: CrossShapedAttention, x: Tensor, size: Size) -> Tensor:
    query, value = (_image(part, size) for part in layer.to_qkv(x).chunk(2, dim=2))
    local = layer.parallel_conv(value)
    half = query.shape[1] // 2
    rows = _stripes(query[:, :half], value[:, :half], layer.window, layer.heads)
    turned = (query[:, half:].transpose(2, 3), value[:, half:].transpose(2, 3))
    columns = _stripes(*turned, layer.window, layer.heads).transpose(2, 3)
    mixed = F.hardswish(torch.cat([rows, columns], dim=1) + local)
    return _tokens(layer.attn_bn(_image(layer.to_out(_tokens(mixed)), size)))


def _shortcut(layer: DiversityShortcut, x: Tensor) -> Tensor:
    matrix = layer.proj_right(x.reshape(*x.shape[:2], layer.rows, layer.columns))
    mixed = layer.proj_left(F.gelu(matrix.transpose(2, 3)))
    return mixed.transpose(2, 3).reshape(x.shape)


def _block(block: Block, x: Tensor, size: Size) -> Tensor:
    x = x + _attention(block.attn, block.attn_norm(x), size) + _shortcut(block.des, x)
    wide = _image(block.ffn.fc1(block.ffn_norm(x)), size)
    first, second = wide.chunk(2, dim=1)
    wide = torch.cat([block.ffn.conv.conv_3(first), block.ffn.conv.conv_5(second)], dim=1)
    return x + block.ffn.fc2(F.gelu(_tokens(wide)))


def _stage(stage: Stage, maps: Sequence[Tensor]) -> list[Tensor]:
    results = []
    for index, image in enumerate(maps):
        size = (image.shape[2], image.shape[3])
        embed = stage.patch_embed[index]
        x = embed.get_submodule("norm")(_tokens(embed.get_submodule("proj")(image)))
        for block in stage.branches[index].children():
            assert isinstance(block, Block)
            x = _block(block, x, size)
        results.append(_image(stage.norm[index](x), size))
    return results


def _fuse(fusion: Fusion, maps: Sequence[Tensor]) -> list[Tensor]:
    results = []
    for target, paths in enumerate(fusion.blocks):
        terms = []
        for source, path in enumerate(paths.children()):
            term = path(maps[source])
            if source > target:
                term = F.interpolate(term, scale_factor=2 ** (source - target), mode="nearest")
                term = term[..., : maps[target].shape[2], : maps[target].shape[3]]
            terms.append(term)
        results.append(F.gelu(torch.stack(terms).sum(0)))
    return results


def trunk_as_written(trunk: HRViT, image: Tensor) -> list[Tensor]:
    """The four maps of the trunk, step by step as the paper has them."""
    stem = trunk.stem
    x = F.relu(stem.bn2(stem.conv2(F.relu(stem.bn1(stem.conv1(image))))))
    maps = [x]
    for entry in trunk.features:
        assert isinstance(entry, Fusion | Stage)
        maps = _fuse(entry, maps) if isinstance(entry, Fusion) else _stage(entry, maps)
    return maps


@torch.no_grad()
def as_written(net: EncoderDecoder, image: Tensor) -> Tensor:
    """Class scores (1, K, H, W), step by step as the paper has them."""
    trunk, head = net.backbone, net.decode_head
    assert isinstance(trunk, HRViT) and isinstance(head, HRViTHead)
    maps = trunk_as_written(trunk, image)
    size = (maps[0].shape[2], maps[0].shape[3])
    wide = [
        F.interpolate(layer(x), size=size, mode="bilinear", align_corners=False)
        for layer, x in zip(head.convs, maps, strict=True)
    ]
    logits = head.conv_seg(head.fusion_conv(torch.cat(wide, dim=1)))
    whole = (image.shape[2], image.shape[3])
    return F.interpolate(logits, size=whole, mode="bilinear", align_corners=False)


@torch.inference_mode()
def ours(net: nn.Module, bfloat16: bool, image: Tensor) -> Tensor:
    """Class scores of the prepared network."""
    with torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
        pred: Tensor = net(image)["pred"]
    return pred


def make_side(name: str, arch: str, size: Size, num_classes: int) -> Callable[[], Tensor]:
    """One side ready to be called; a small image has been through it already."""
    torch.set_num_threads(1)
    net = build(arch, num_classes)
    if name == REFERENCE:
        side = partial(as_written, net)
    else:
        side = partial(ours, prepare_for_inference(net), name == OURS_BF16)
    side(draw((64, 64)))
    return partial(side, draw(size))


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text() if flags.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def measure_cpu(arch: str, size: Size, num_classes: int, rounds: int) -> None:
    """The table of one network on one thread."""
    names = [REFERENCE, OURS, *([OURS_BF16] if multiplies_bfloat16() else [])]
    print_difference(*(make_side(name, arch, size, num_classes)() for name in (REFERENCE, OURS)))
    rows = measure(make_side, names, arch, size, num_classes, rounds=rounds)
    title = f"hrvit.{arch}_SegFormer, {num_classes} classes, {size[0]}x{size[1]}, one thread"
    print_table(title + " (limits 1 and 0.8)", rows)
    if OURS_BF16 in rows:
        for name in (REFERENCE, OURS):
            gain = rows[name].seconds / rows[OURS_BF16].seconds
            print(f"  bfloat16 is {gain:.2f} times as fast as {name}")
    else:
        print("  bfloat16 not measured: this CPU has no instructions for it")


def measure_bfloat16(arch: str, size: Size, num_classes: int, rounds: int) -> None:
    """The table of `hrvit.<arch>` in both precisions on one thread."""
    torch.set_num_threads(1)
    net = prepare_for_inference(build_net(f"hrvit.{arch}", num_classes).eval())
    image = draw(size)
    sides = {
        OURS: partial(ours, net, False, image),
        OURS_BF16: partial(ours, net, True, image),
    }
    title = f"hrvit.{arch}, {num_classes} classes, {size[0]}x{size[1]}, one thread"
    print_table(title, time_in_turn(sides, rounds))


def measure_gpu(arch: str, size: Size, num_classes: int, rounds: int) -> None:
    """Seconds per image on a CUDA device, float32 without TF32 against bfloat16."""
    net = prepare_for_inference(build(arch, num_classes).cuda())
    image = draw(size).cuda().repeat(8, 1, 1, 1)

    def run(bfloat16: bool) -> None:
        ours(net, bfloat16, image)
        torch.cuda.synchronize()

    sides = {OURS: partial(run, False), OURS_BF16: partial(run, True)}
    seconds = time_in_turn(sides, rounds + 3, time.perf_counter)
    title = f"hrvit.{arch}_SegFormer, {size[0]}x{size[1]}, GPU, batch {len(image)}"
    print_table(title, {name: value / len(image) for name, value in seconds.items()})


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--sizes", default="b1,b2", help="of the network")
    parser.add_argument("--size", default="512,512", help="H,W of the image")
    parser.add_argument("--num_classes", type=int, default=19)
    parser.add_argument("--quick", action="store_true", help="b1 at 128x128")
    parser.add_argument("--bfloat16_of", metavar="NAME", help="only this network, both precisions")
    args = parser.parse_args()
    if args.quick:
        args.sizes, args.size = "b1", "128,128"
    height, width = (int(side) for side in args.size.split(","))
    if args.bfloat16_of:
        measure_bfloat16(args.bfloat16_of, (height, width), args.num_classes, args.rounds)
        return
    for arch in args.sizes.split(","):
        measure_cpu(arch, (height, width), args.num_classes, args.rounds)
        if torch.cuda.is_available():
            measure_gpu(arch, (height, width), args.num_classes, args.rounds)


if __name__ == "__main__":
    main()
