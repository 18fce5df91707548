# SPDX-License-Identifier: Apache-2.0
"""Weights of mmsegmentation 1.x: the parts that differ, against PyTorch's own layers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import UserError
from network.backbones.mit import ReducedAttention
from network.backbones.swin import PatchMerging
from network.build import build_net
from network.convert import load_official
from network.convert.mmseg1 import translate
from network.inference import prepare_for_inference
from tests.network.convert.foreign import CLOSE, apart, lively
from tests.network.tiny import NUM_CLASSES, tiny_net

DEPTHS = (1, 1, 1, 1)


def mit_file(net: nn.Module) -> dict[str, Tensor]:
    """The trunk of a SegFormer as it is spelled there."""
    table = {
        r"^patch_embed(\d)\.proj": r"layers.\1.0.projection",
        r"^patch_embed(\d)\.norm": r"layers.\1.0.norm",
        r"^block(\d)": r"layers.\1.1",
        r"^norm(\d)": r"layers.\1.2",
        r"attn\.proj": "attn.attn.out_proj",
        r"mlp\.fc1": "ffn.layers.0",
        r"mlp\.dwconv\.dwconv": "ffn.layers.1",
        r"mlp\.fc2": "ffn.layers.4",
    }
    state: dict[str, Tensor] = {}
    for key, value in net.backbone.state_dict().items():
        name = key
        for ours, theirs in table.items():
            name = re.sub(ours, theirs, name)
        name = re.sub(r"^layers\.(\d)", lambda m: f"layers.{int(m[1]) - 1}", name)
        if re.search(r"ffn\.layers\.[04]\.weight$", name):
            value = value[:, :, None, None]
        if ".attn.q." in name:
            rest = net.backbone.state_dict()[key.replace(".q.", ".kv.")]
            name = name.replace("attn.q.", "attn.attn.in_proj_")
            value = torch.cat([value, rest])
        if ".attn.kv." not in name:
            state[f"backbone.{name}"] = value
    return state


def head_file(classes: int = NUM_CLASSES, width: int = 256) -> dict[str, Tensor]:
    """The head as it is spelled there: a batch norm after each projection, none with a bias."""
    generator = torch.Generator().manual_seed(3)

    def rows(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) / max(shape[-1], shape[1]) ** 0.5

    state = {f"convs.{n}.conv.weight": rows(width, c, 1, 1) for n, c in enumerate(CHANNELS)}
    state["fusion_conv.conv.weight"] = rows(width, 4 * width, 1, 1)
    for name in [*(f"convs.{n}" for n in range(4)), "fusion_conv"]:
        state |= {
            f"{name}.bn.weight": 1 + 0.1 * torch.randn(width, generator=generator),
            f"{name}.bn.bias": 0.1 * torch.randn(width, generator=generator),
            f"{name}.bn.running_mean": 0.1 * torch.randn(width, generator=generator),
            f"{name}.bn.running_var": 0.5 + torch.rand(width, generator=generator),
            f"{name}.bn.num_batches_tracked": torch.tensor(3),
        }
    state |= {"conv_seg.weight": rows(classes, width, 1, 1), "conv_seg.bias": torch.randn(classes)}
    return {f"decode_head.{key}": value for key, value in state.items()}


CHANNELS = (32, 64, 160, 256)


def their_head(state: dict[str, Tensor], maps: list[Tensor]) -> Tensor:
    """The head in plain functions: project, norm, rectify, resize, join from fine to coarse."""

    def block(name: str, x: Tensor) -> Tensor:
        at = f"decode_head.{name}"
        x = F.conv2d(x, state[f"{at}.conv.weight"])
        norm = (state[f"{at}.bn.{part}"] for part in ("running_mean", "running_var"))
        return F.relu(
            F.batch_norm(x, *norm, state[f"{at}.bn.weight"], state[f"{at}.bn.bias"], eps=1e-5)
        )

    size = maps[0].shape[2:]
    levels = [block(f"convs.{n}", x) for n, x in enumerate(maps)]
    joint = torch.cat([F.interpolate(x, size, mode="bilinear") for x in levels], dim=1)
    head = (state[f"decode_head.conv_seg.{part}"] for part in ("weight", "bias"))
    return F.conv2d(block("fusion_conv", joint), *head)


def segformer() -> nn.Module:
    return build_net("segformer.B0", NUM_CLASSES, stage_depths=DEPTHS).eval()


def test_segformer_loads_whole_and_its_head_rectifies_each_level() -> None:
    source, net = lively(segformer()), segformer()
    state = {**mit_file(source), **head_file()}
    report = load_official(net, {"meta": {}, "state_dict": state})
    assert report.layout == "mmseg-1"
    assert set(report.filled) == {f"decode_head.linear_c{n}.proj.bias" for n in (1, 2, 3, 4)}
    assert not (report.dropped or report.missing)
    own = net.backbone.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in source.backbone.state_dict().items())
    assert {m.eps for m in net.backbone.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    image = torch.randn(1, 3, 61, 75)
    with torch.no_grad():
        maps = net.backbone(image)
        want = F.interpolate(their_head(state, maps), image.shape[2:], mode="bilinear")
        assert apart(want, net(image)["pred"]) < CLOSE
        assert apart(want, prepare_for_inference(net)(image)["pred"]) < CLOSE


def test_the_head_stays_what_it_is_in_our_own_checkpoints() -> None:
    net, again, plain = segformer(), segformer(), segformer()
    load_official(net, {**mit_file(net), **head_file()})
    load_official(again, {"model_options": {}, "state_dict": net.state_dict()})
    image = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        assert torch.equal(net(image)["pred"], again(image)["pred"])
    load_official(again, {"model_options": {}, "state_dict": plain.state_dict()})
    with torch.no_grad():
        assert torch.equal(plain(image)["pred"], again(image)["pred"])


def test_the_head_is_as_wide_as_that_of_the_file() -> None:
    narrow = {**mit_file(segformer()), **head_file(width=64)}
    net, again = segformer(), segformer()
    load_official(net, narrow)
    assert net.feature_channels == net.decode_head.feature_channels == 64
    load_official(again, {"model_options": {}, "state_dict": net.state_dict()})
    image = torch.randn(1, 3, 61, 75)
    with torch.no_grad():
        want = F.interpolate(
            their_head(narrow, net.backbone(image)), image.shape[2:], mode="bilinear"
        )
        assert apart(want, net(image)["pred"]) < CLOSE
        assert torch.equal(net(image)["pred"], again(image)["pred"])
    options = {"stage_depths": DEPTHS, "boundary_heads": True}
    read = build_net("segformer.B0", NUM_CLASSES, **options)
    with pytest.raises(UserError, match=r"\(64, .* wanted \(256, "):
        load_official(read, narrow, partial=["boundary"])


def test_a_file_goes_into_the_multi_scale_network_and_back() -> None:
    file = {**mit_file(lively(segformer())), **head_file()}
    multi = build_net("segformer.B0_Mscale", NUM_CLASSES, stage_depths=DEPTHS).eval()
    with pytest.raises(UserError, match=r"missing \(scale_attn"):
        load_official(multi, file)
    report = load_official(multi, file, partial=["scale_attn"])
    assert all(name.startswith("scale_attn.") for name in report.missing)
    single, again = segformer(), segformer()
    load_official(single, file)
    image = torch.randn(1, 3, 61, 75)
    with torch.no_grad():
        want = single(image)["pred"]
        assert torch.equal(multi.net(image)["pred"], want)
        load_official(
            again, {"model_options": {}, "state_dict": multi.state_dict()}, partial=["scale_attn"]
        )
        assert torch.equal(again(image)["pred"], want)
        multi = build_net("segformer.B0_Mscale", NUM_CLASSES, stage_depths=DEPTHS).eval()
        own = {"model_options": {}, "state_dict": single.state_dict()}
        load_official(multi, own, partial=["scale_attn"])
        assert torch.equal(multi.net(image)["pred"], want)


def test_the_rectified_levels_train() -> None:
    net = segformer()
    load_official(net, {**mit_file(net), **head_file()})
    net.train()(torch.randn(2, 3, 64, 64), return_all=True)["pred"].mean().backward()
    assert net.decode_head.linear_c1.bn.weight.grad.abs().max() > 0


def test_the_trunk_of_a_file_starts_a_network(tmp_path: Path) -> None:
    source = lively(segformer())
    bare = {key.removeprefix("backbone."): value for key, value in mit_file(source).items()}
    for number, state in enumerate((mit_file(source), bare, {**mit_file(source), **head_file()})):
        torch.save({"state_dict": state}, tmp_path / f"{number}.pth")
        options = {"stage_depths": DEPTHS, "pretrained": str(tmp_path / f"{number}.pth")}
        net = build_net("segformer.B0", NUM_CLASSES, **options)
        assert torch.equal(
            net.backbone.block1[0].attn.kv.weight, source.backbone.block1[0].attn.kv.weight
        )
        assert len(net.trunk_report.dropped) == (32 if number == 2 else 0) + 4 * (number == 2)


def test_a_part_that_is_missing_is_named() -> None:
    state = {**mit_file(segformer()), **head_file()}
    del state["backbone.layers.1.1.0.attn.attn.in_proj_bias"]
    with pytest.raises(UserError, match=r"2 missing \(backbone.block2.0.attn.q.bias"):
        load_official(segformer(), state)


def test_other_classes_are_one_line() -> None:
    state = {**mit_file(segformer()), **head_file(5)}
    with pytest.raises(UserError, match="the file has 5 classes, streets has 3"):
        load_official(segformer(), state, dataset="streets", offer_partial=False)


def test_its_attention_is_that_of_pytorch() -> None:
    theirs = lively(nn.MultiheadAttention(32, 2, batch_first=True))
    ours = ReducedAttention(32, 2, 1, 1e-6)
    state = {f"layers.0.1.0.attn.attn.{k}": v for k, v in theirs.state_dict().items()}
    found = translate({**state, "layers.0.0.projection.weight": torch.zeros(1)})
    prefix = "backbone.block1.0.attn."
    ours.load_state_dict(
        {k.removeprefix(prefix): found.state[k] for k in found.state if prefix in k}
    )
    tokens = torch.randn(1, 5, 6, 32)
    with torch.no_grad():
        want, _ = theirs(*[tokens.flatten(1, 2)] * 3)
        assert apart(want.view(tokens.shape), ours(tokens)) < CLOSE


def test_its_patch_merging_takes_neighbours_of_a_channel_together() -> None:
    channels = 6
    norm, linear = lively(nn.LayerNorm(4 * channels)), nn.Linear(4 * channels, 12, bias=False)
    start = "backbone.stages.0."
    found = translate(
        {
            f"{start}blocks.0.attn.w_msa.qkv.bias": torch.zeros(3),
            f"{start}downsample.norm.weight": norm.weight.detach(),
            f"{start}downsample.norm.bias": norm.bias.detach(),
            f"{start}downsample.reduction.weight": linear.weight.detach(),
        }
    )
    ours, prefix = PatchMerging(channels), "backbone.layers.0.downsample."
    ours.load_state_dict({k.removeprefix(prefix): v for k, v in found.state.items() if prefix in k})
    tokens = torch.randn(1, 8, 10, channels)
    with torch.no_grad():
        columns = F.unfold(tokens.permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
        assert apart(linear(norm(columns)).view(1, 4, 5, 12), ours(tokens)) < CLOSE


def block_names(ours: str, theirs: str) -> dict[str, str]:
    """A convolution and a norm in a group with its ReLU, as one block there."""
    head, _, number = ours.rpartition(".")
    return {f"{ours}.": f"{theirs}.conv.", f"{head}.{int(number) + 1}.0.": f"{theirs}.bn."}


def ocr_names() -> dict[str, str]:
    context, theirs = "ocr_distri_head.object_context_block", "1.object_context_block"
    names = {"cls_head.": "1.conv_seg.", "aux_head.2.": "0.conv_seg."}
    names |= block_names("conv3x3_ocr.0", "1.bottleneck")
    names |= block_names("aux_head.0", "0.convs.0")
    names |= block_names("ocr_distri_head.conv_bn_dropout.0", f"{theirs}.bottleneck")
    names |= block_names(f"{context}.f_down.0", f"{theirs}.value_project")
    names |= block_names(f"{context}.f_up.0", f"{theirs}.out_project")
    for ours, other in (("f_pixel", "query_project"), ("f_object", "key_project")):
        names |= block_names(f"{context}.{ours}.0", f"{theirs}.{other}.0")
        names |= block_names(f"{context}.{ours}.2", f"{theirs}.{other}.1")
    return {f"ocr.{ours}": f"decode_head.{other}" for ours, other in names.items()}


def ocr_file(net: nn.Module) -> dict[str, Tensor]:
    """A tiny HRNet with OCR as it is spelled there; convolutions before norms have no bias."""
    state: dict[str, Tensor] = {}
    for key, value in net.state_dict().items():
        if key in ("ocr.conv3x3_ocr.0.bias", "ocr.aux_head.0.bias"):
            continue
        start = next((ours for ours in ocr_names() if key.startswith(ours)), "")
        state[ocr_names().get(start, "") + key.removeprefix(start)] = value
    return state


def test_hrnet_with_ocr_loads_whole_and_lacks_two_biases() -> None:
    source, net = tiny_net("ocrnet.HRNet", seed=1), tiny_net("ocrnet.HRNet", seed=2)
    with torch.no_grad():
        for name in ("conv3x3_ocr", "aux_head"):
            source.ocr.get_submodule(name)[0].bias.zero_()
    report = load_official(net, ocr_file(source))
    assert report.layout == "mmseg-1" and not report.missing
    assert set(report.filled) == {"ocr.conv3x3_ocr.0.bias", "ocr.aux_head.0.bias"}
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())
    multi = tiny_net("ocrnet.HRNet_Mscale", seed=3)
    report = load_official(multi, ocr_file(source), partial=["scale_attn"])
    assert all(name.startswith("scale_attn.") for name in report.missing)
    assert len(report.filled) == 2
    assert all(torch.equal(v, multi.net.state_dict()[k]) for k, v in source.state_dict().items())


def hrnet_own_file(net: nn.Module, *, model: bool, groups: bool) -> dict[str, Tensor]:
    """As HRNet's authors save it; `groups`: norms stand in a group with their ReLU."""
    state = {}
    for key, value in net.state_dict().items():
        name = key.removeprefix("backbone.").removeprefix("ocr.")
        if not groups:
            name = re.sub(r"^(conv3x3_ocr|aux_head)\.1\.0\.", r"\1.1.", name)
            name = re.sub(r"^aux_head\.2\.", "aux_head.3.", name)
        state[f"model.{name}" if model else name] = value
    return {**state, "loss.criterion.weight": torch.ones(3)} if model else state


@pytest.mark.parametrize("model", [True, False])
@pytest.mark.parametrize("groups", [True, False])
@pytest.mark.parametrize("saved", ["", "module."])
def test_the_ocr_network_of_hrnets_authors_loads_whole(
    model: bool, groups: bool, saved: str, tmp_path: Path
) -> None:
    source, net = tiny_net("ocrnet.HRNet", seed=1), tiny_net("ocrnet.HRNet", seed=2)
    state = hrnet_own_file(source, model=model, groups=groups)
    state = {saved + key: value for key, value in state.items()}
    report = load_official(net, state)
    assert report.layout == "hrnet-ocr"
    assert report.dropped == (("loss.criterion.weight",) if model else ())
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())
    torch.save(state, tmp_path / "w.pth")
    trunk = tiny_net("basic.HRNet", seed=3, pretrained=str(tmp_path / "w.pth"))
    assert trunk.trunk_report.layout == "hrnet-ocr"
