# SPDX-License-Identifier: Apache-2.0
"""Every architecture without OCR: shapes, training, sizes, counts of the repaired ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from network.build import build_net, list_archs
from network.convert import load_official
from network.convert.nvidia import official_name
from network.deeper import Deeper
from network.inference import prepare_for_inference
from network.multiscale import MultiScale
from tests.network.tiny import NUM_CLASSES, TINY_TRUNKS, picture, tiny_net

MODULES = ("attnscale.", "basic.", "deeper.", "deepv3.", "mscale.", "mscale2.")
ARCHS = [arch for arch in list_archs() if arch.startswith(MODULES)]
# Seconds each, and another architecture runs the same code in less.
LONG = ("attnscale.DeepV3R50", "EffB4", "SRNX101", "W38I", "mscale.DeepV3R50", "mscale2.DeepV3R50")


def cases(archs: list[str]) -> list[object]:
    return [
        pytest.param(arch, marks=[pytest.mark.slow] if any(name in arch for name in LONG) else [])
        for arch in archs
    ]


def has_scales(arch: str) -> bool:
    return arch.startswith(("mscale", "attnscale"))


def test_every_published_name_is_listed() -> None:
    assert len(ARCHS) == 31
    assert {arch.split(".")[0] + "." for arch in ARCHS} == set(MODULES)


@pytest.mark.parametrize("arch", cases(ARCHS))
@torch.inference_mode()
def test_any_size_from_32_gives_scores_at_the_size_of_the_input(arch: str) -> None:
    options = {"n_scales": (0.5, 1.0, 2.0)} if has_scales(arch) else {}
    outputs = tiny_net(arch, **options).eval()(picture(33, 47))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {
        "pred": (1, NUM_CLASSES, 33, 47)
    }


@pytest.mark.parametrize("arch", cases(ARCHS))
def test_training_reaches_every_parameter(arch: str) -> None:
    net = tiny_net(arch).train()
    outputs = net(picture(32, 48, batch=2))
    sum(value.float().pow(2).mean() for value in outputs.values()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []
    assert all(bool(torch.isfinite(item.grad).all()) for item in net.parameters())
    scales = {key for key in outputs if key.startswith("pred_")}
    assert bool(scales) == has_scales(arch)
    assert outputs["pred"].shape == (2, NUM_CLASSES, 32, 48)


@pytest.mark.parametrize("arch", ["deepv3.DeepV3PlusW38", "mscale.DeepV3X71", "deeper.DeeperX71"])
def test_one_image_per_process_can_be_trained_on(arch: str) -> None:
    tiny_net(arch).train()(picture(64, 64))["pred"].square().mean().backward()


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("deepv3.DeepV3PlusSRNX50", 42_353_904),
        ("deepv3.DeepV3PlusSRNX101", 63_749_424),
        ("deepv3.DeepV3PlusEffB4", 21_695_688),
        ("deeper.DeeperEffB4", 24_298_312),
        ("mscale.DeepV3EffB4", 22_987_208),
        ("mscale.DeepV3EffB4Fuse", 22_987_208),
        ("mscale.DeeperEffB4", 25_479_240),
        ("mscale2.HRNet", 71_488_576),
    ],
)
def test_parameter_counts_of_the_repaired_networks(arch: str, count: int) -> None:
    with torch.device("meta"):
        net = build_net(arch, 19)
    assert sum(item.numel() for item in net.parameters()) == count


@pytest.mark.parametrize("arch", ["deeper.DeeperX71", "mscale.DeeperX71", "attnscale.DeepV3W38"])
def test_an_official_file_loads_whole(arch: str) -> None:
    source, net = tiny_net(arch, seed=1), tiny_net(arch, seed=2)
    state = {f"module.{official_name(k, arch)}": v for k, v in source.state_dict().items()}
    groups = {key.split(".")[1] for key in state}
    assert ("trunk" in groups) == arch.startswith("deeper.")
    assert ("backbone" in groups) != arch.startswith("deeper.")
    report = load_official(net, state)
    assert len(report.loaded) == len(state)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())


@pytest.mark.parametrize("arch", ["deepv3.DeepV3PlusX71", "mscale.DeepV3W38Fuse2", "mscale2.HRNet"])
@torch.inference_mode()
def test_the_prepared_copy_gives_the_same_scores(arch: str) -> None:
    net = tiny_net(arch).eval()
    want = net(picture())["pred"]
    got = prepare_for_inference(net)(picture())["pred"]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def first_weights(net: nn.Module, name: str) -> Tensor:
    convs = [m for m in net.get_submodule(name).modules() if isinstance(m, nn.Conv2d)]
    return convs[0].weight.detach()


def test_the_published_start_is_kaiming_where_the_name_says_so() -> None:
    spread = {}
    for arch in ("deepv3.DeepV3PlusW38", "deepv3.DeepV3PlusW38I"):
        torch.manual_seed(0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("network.backbones.deeplab_trunks.TRUNKS", TINY_TRUNKS)
            net = build_net(arch, NUM_CLASSES)
        weights = {name: first_weights(net, name) for name in ("final", "bot_aspp")}
        spread[arch] = {name: float(w.std()) * w[0].numel() ** 0.5 for name, w in weights.items()}
    assert spread["deepv3.DeepV3PlusW38"]["final"] == pytest.approx(2**0.5, rel=0.02)
    assert spread["deepv3.DeepV3PlusW38I"]["bot_aspp"] == pytest.approx(2**0.5, rel=0.02)
    assert spread["deepv3.DeepV3PlusW38"]["bot_aspp"] == pytest.approx(3**-0.5, rel=0.02)


def test_the_deeper_decoder_refuses_a_trunk_of_other_strides() -> None:
    with pytest.raises(ValueError, match=r"strides \(2, 4, 8\), ResNet gives \(4, 8, 8\)"):
        Deeper(TINY_TRUNKS["resnet-50"](), NUM_CLASSES)


@torch.inference_mode()
def test_fused_context_at_scale_one_alone_is_the_plain_network() -> None:
    plain = tiny_net("mscale.DeepV3W38", n_scales=(1.0,)).eval()
    fused = tiny_net("mscale.DeepV3W38Fuse", n_scales=(1.0,)).eval()
    torch.testing.assert_close(fused(picture())["pred"], plain(picture())["pred"])


class Told(nn.Module):
    """An attention head with the same answer everywhere."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = values

    def forward(self, feats: Tensor) -> Tensor:
        return torch.tensor(self.values)[None, :, None, None].expand(1, -1, *feats.shape[2:])


@torch.inference_mode()
def test_context_is_handed_up_by_the_last_channel_of_the_attention() -> None:
    net = tiny_net("mscale.DeepV3W38Fuse2", n_scales=(0.5, 1.0, 2.0)).eval()
    assert isinstance(net, MultiScale)
    apart = tiny_net("mscale.DeepV3W38", n_scales=(0.5, 1.0, 2.0)).eval()
    apart.net.load_state_dict(net.net.state_dict())
    apart.scale_attn, net.scale_attn = Told(0.3), Told(0.3, 0.0)
    image = picture()
    torch.testing.assert_close(net(image)["pred"], apart(image)["pred"])
    net.scale_attn = Told(0.3, 1.0)
    seen: list[Tensor] = []
    net.net.bot_aspp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(image)
    torch.testing.assert_close(seen[1], F.interpolate(seen[0], size=(8, 12), mode="bilinear"))
    assert [tuple(x.shape[2:]) for x in seen] == [(4, 6), (8, 12), (16, 24)]
