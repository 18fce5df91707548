# SPDX-License-Identifier: Apache-2.0
"""HANet networks: names, sizes, training, weights, and the blocks on other networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from config import ModelConfig, UserError
from network.backbones.five_stages import FiveStages
from network.backbones.mobile_stages import MobileStages, mnasnet, mobilenet_v2, shufflenet_v2
from network.backbones.resnet_stages import ResNetKind, ResNetStages
from network.backbones.three_maps import ThreeMaps
from network.build import build_net, list_archs, resolve_arch
from network.convert import load_official
from network.convert.hanet import official_name
from network.deepv3 import DeepV3Plus
from network.hanet import HANetDeepLab
from network.height_gates import attention_blocks, record_gates
from network.inference import prepare_for_inference
from network.multiscale import MultiScale, hierarchical
from network.ops.conv import conv_bn_relu
from tests.network.tiny import NUM_CLASSES, enliven, picture, tiny_net

ARCHS = [arch for arch in list_archs() if arch.startswith("hanet.")]
SMALL = "hanet.DeepMobileNetV3PlusD_HANet"
BLOCKS: dict[str, Any] = {"hanet": (1, 1, 1, 1, 1), "hanet_set": (3, 16, 3)}
HMSA = ["deepv3.DeepV3PlusX71", "deeper.DeeperW38", "mscale.DeepV3W38Fuse", "attnscale.DeepV3W38"]


def rows(height: int, batch: int = 1) -> Tensor:
    return ((torch.arange(height) + 0.5) / height).repeat(batch, 1)


class Narrow(FiveStages):
    """A trunk of five convolutions at stride 16; its low map has stride 8 as in MobileNetV2."""

    channels = (8, 16, 24)

    def __init__(self, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        self.layer0 = nn.Sequential(conv_bn_relu(3, 8, 3, stride=2), nn.MaxPool2d(2))
        self.layer1, self.layer2 = conv_bn_relu(8, 8, 3, 2), conv_bn_relu(8, 8, 3, 2)
        self.layer3, self.layer4 = conv_bn_relu(8, 16, 3), conv_bn_relu(16, 24, 3)


def small_net(seed: int = 0, **options: Any) -> HANetDeepLab:
    """Five blocks on a narrow trunk, with lively weights."""
    torch.manual_seed(seed)
    model = ModelConfig(**{**BLOCKS, **options})
    net = HANetDeepLab(Narrow(model.grad_ckpt), NUM_CLASSES, 16, model)
    enliven(net)
    return net


def test_every_published_name_is_there_in_both_spellings() -> None:
    assert len(ARCHS) == 20
    for arch in ARCHS:
        published = f"network.deepv3.{arch.removeprefix('hanet.')}"
        assert resolve_arch(published) == arch
        assert resolve_arch(f"{published}_Mscale") == f"{arch}_Mscale"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "reduction", "count"),
    [
        ("DeepR152V3PlusD_HANet_OS8", 64, 80_323_021),
        ("DeepResNext50V3PlusD_HANet", 64, 45_159_117),
        ("DeepWideResNet50V3PlusD_HANet", 64, 89_013_453),
        ("DeepShuffleNetV3PlusD_HANet_OS32", 32, 13_169_361),
        ("DeepMNASNet05V3PlusD_HANet", 16, 13_959_745),
        ("DeepMNASNet10V3PlusD_HANet", 16, 16_946_243),
    ],
)
def test_parameter_counts_of_networks_without_a_fixture(
    arch: str, reduction: int, count: int
) -> None:
    options = {"hanet": (1, 1, 1, 1, 0), "hanet_set": (3, reduction, 3), "aux_loss": True}
    with torch.device("meta"):
        net = build_net(f"hanet.{arch}", 19, **options)
    assert sum(item.numel() for item in net.parameters()) == count


@pytest.mark.parametrize(
    ("trunk", "stride", "strides"),
    [
        (mobilenet_v2, 16, (8, 16, 16)),
        (mobilenet_v2, 8, (8, 8, 8)),
        (shufflenet_v2, 16, (8, 16, 16)),
        (shufflenet_v2, 8, (8, 8, 8)),
        (shufflenet_v2, 32, (8, 32, 32)),
    ],
)
@torch.inference_mode()
def test_mobile_trunks_have_the_stride_they_are_asked_for(
    trunk: Callable[[int], MobileStages], stride: int, strides: tuple[int, int, int]
) -> None:
    net = trunk(stride).eval()
    assert [tuple(x.shape[1:]) for x in net(picture(64, 96))] == [
        (channels, 64 // own, 96 // own)
        for channels, own in zip(net.channels, strides, strict=True)
    ]


@pytest.mark.parametrize("stride", [4, 8, 16])
@torch.inference_mode()
def test_resnet_trunks_have_the_stride_they_are_asked_for(stride: int) -> None:
    kind = ResNetKind(blocks=(1, 1, 1, 1), groups=32, width=1, wide_stem=stride == 8)
    low, third, final = ResNetStages(kind, stride).eval()(picture(64, 96))
    assert low.shape[1:] == (256, 16, 24)
    assert third.shape[1:] == (1024, 64 // stride, 96 // stride)
    assert final.shape[1:] == (2048, 64 // stride, 96 // stride)


@torch.inference_mode()
def test_mnasnet_takes_four_rows_and_columns_off_the_map() -> None:
    assert mnasnet(True, 16).eval()(picture(128, 256))[1].shape[2:] == (4, 12)


@torch.inference_mode()
def test_any_size_from_32_gives_scores_at_the_size_of_the_input() -> None:
    net = build_net("hanet.DeepMNASNet05V3PlusD_HANet", NUM_CLASSES, **BLOCKS).eval()
    for size in ((32, 32), (33, 47)):
        outputs = net(picture(*size), rows(size[0]))
        assert {key: tuple(x.shape) for key, x in outputs.items()} == {
            "pred": (1, NUM_CLASSES, *size)
        }


def test_training_gives_scores_auxiliary_scores_and_row_logits_and_reaches_every_parameter() -> (
    None
):
    net = small_net(aux_loss=True, hanet_dropout=0.1, pos_noise=0.5).train()
    outputs = net(picture(64, 96, batch=2), rows(64, 2))
    assert {key: tuple(x.shape) for key, x in outputs.items()} == {
        "pred": (2, NUM_CLASSES, 64, 96),
        "aux": (2, NUM_CLASSES, 4, 6),
        "row_logits": (2, NUM_CLASSES, 16),
    }
    sum(x.square().mean() for x in outputs.values()).backward()
    untouched = [n for n, p in net.named_parameters() if p.grad is None]
    assert untouched == [f"hanet{k}.pos_emb1d_2nd.pos_layer.weight" for k in range(5)]


def test_recomputing_the_trunk_leaves_the_gradient_as_it_is() -> None:
    gradients = []
    for grad_ckpt in (False, True):
        net = small_net(grad_ckpt=grad_ckpt).train()
        net(picture(64, 64, batch=2), rows(64, 2))["pred"].square().mean().backward()
        gradients.append(net.backbone.layer1[0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_no_block_is_the_plain_network() -> None:
    net = small_net(hanet=(0,) * 5)
    assert attention_blocks(net) == {} and net.dsn is None
    assert torch.equal(*(net.eval()(picture(), r)["pred"] for r in (None, rows(64))))


@torch.inference_mode()
def test_the_position_of_a_crop_changes_the_scores() -> None:
    net = small_net().eval()
    image = picture(64, 64)
    upper, lower = (net(image, rows(128)[:, part])["pred"] for part in (slice(64), slice(64, None)))
    assert float((upper - lower).abs().max()) > 1e-3


@torch.inference_mode()
def test_the_prepared_copy_gives_the_same_scores() -> None:
    net = small_net().eval()
    want = net(picture(), rows(64))["pred"]
    got = prepare_for_inference(net)(picture(), rows(64))["pred"]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


@torch.inference_mode()
def test_gates_are_recorded_for_every_block_and_the_hooks_are_gone() -> None:
    net = small_net().eval()
    gates = record_gates(net, picture(), rows(64))
    assert {key: tuple(gate.shape) for key, gate in gates.items()} == {
        "gate_0": (1, 24, 4),
        "gate_1": (1, 1280, 4),
        "gate_2": (1, 256, 4),
        "gate_3": (1, 256, 8),
        "gate_4": (1, NUM_CLASSES, 8),
    }
    assert all(not block._forward_hooks for block in attention_blocks(net).values())


class NarrowThree(ThreeMaps):
    """Three convolutions at stride 8."""

    channels, strides = (4, 6, 8), (4, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn_relu(3, 4, 3, 4), conv_bn_relu(4, 6, 3, 2)
        self.c = conv_bn_relu(6, 8, 3)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.a(images)
        return [low, self.b(low), self.c(self.b(low))]


def test_the_blocks_of_a_plain_decoder_read_the_maps_they_gate() -> None:
    net = DeepV3Plus(NarrowThree(), NUM_CLASSES, width=8, hanet=ModelConfig(**BLOCKS))
    firsts = [block.attention_first[0].in_channels for block in attention_blocks(net).values()]
    assert firsts == [6, 8, 1280, 304, 8]
    enliven(net)
    net.eval()
    there, elsewhere = (net(picture(), r)["pred"] for r in (rows(64), rows(256)[:, :64]))
    assert float((there - elsewhere).detach().abs().max()) > 0


@pytest.mark.slow
@pytest.mark.parametrize("arch", HMSA)
def test_blocks_stand_on_the_deeplab_networks_of_hmsa(arch: str) -> None:
    net = tiny_net(arch, hanet=(1, 1, 1, 1, 1), hanet_set=(3, 4, 3))
    plain = tiny_net(arch)
    assert len(attention_blocks(net)) == 5 and not attention_blocks(plain)
    net.eval()
    with torch.inference_mode():
        image = picture(64, 64)
        there, elsewhere = (net(image, r)["pred"] for r in (rows(64), rows(256)[:, :64]))
    assert float((there - elsewhere).abs().max()) > 0
    net.train()(picture(64, 64, batch=2), rows(64, 2))["pred"].square().mean().backward()
    missed = [n for n, p in net.named_parameters() if p.grad is None and "pos_layer" not in n]
    assert missed == []


def test_a_hanet_network_runs_under_the_multi_scale_attention() -> None:
    model = ModelConfig(n_scales=(0.5, 1.0, 2.0), segattn_bot_ch=8)
    net = hierarchical(small_net(), model)
    assert isinstance(net, MultiScale) and net.align_corners
    enliven(net.scale_attn)
    net.eval()
    with torch.inference_mode():
        outputs = net(picture(64, 64), rows(128)[:, 64:], return_all=True)
        away = net(picture(64, 64), rows(128)[:, :64])["pred"]
    assert {"pred_05x", "pred_10x", "pred_20x", "attn_05x"} <= set(outputs)
    assert float((outputs["pred"] - away).abs().max()) > 1e-4
    assert set(record_gates(net, picture(64, 64), rows(64))) == {f"gate_{k}" for k in range(5)}
    net.train()(picture(64, 64, batch=2), rows(64, 2))["pred"].square().mean().backward()


def official_state(net: nn.Module) -> dict[str, Tensor]:
    """The weights as a published file names them."""
    return {f"module.{official_name(k)}": v.clone() for k, v in net.state_dict().items()}


def test_an_official_file_loads_whole_also_under_the_multi_scale_attention() -> None:
    source = small_net(seed=1, aux_loss=True)
    state = official_state(source)
    assert {"module.layer1.0.weight", "module.dsn.0.bias", "module.final2.0.weight"} <= set(state)
    net = small_net(seed=2, aux_loss=True)
    report = load_official(net, {"state_dict": state})
    assert report.layout == "hanet" and len(report.loaded) == len(state)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in source.state_dict().items())
    wrapped = hierarchical(small_net(seed=3, aux_loss=True), ModelConfig())
    report = load_official(wrapped, state, partial=["scale_attn"])
    assert len(report.loaded) == len(state)


@pytest.mark.parametrize("trained", [(3, 16, 3), (1, -2, 2), (3, 64, 3), (5, 24, 3)])
def test_a_wrong_hanet_set_names_the_one_the_file_was_trained_with(
    trained: tuple[int, int, int],
) -> None:
    source = small_net(hanet_set=trained, hanet=(1, 1, 1, 1, 0), hanet_pos=(1, 0))
    state = official_state(source)
    kernel, reduction, layers = trained
    with pytest.raises(UserError) as error:
        load_official(small_net(hanet_set=(3, 32, 3), hanet=(1, 1, 1, 1, 0)), state)
    wanted = f"--hanet_set {kernel} {reduction} {layers} --hanet_pos 1 0"
    assert str(error.value).endswith(
        f"its HANet blocks were trained with reduction {reduction} (file: {wanted}, "
        "network: --hanet_set 3 32 3 --hanet_pos 2 1)"
    )


def test_only_what_differs_is_named_and_options_settle_what_weights_leave_open() -> None:
    one = {"hanet": (0, 0, 0, 1, 0), "hanet_set": (3, 60, 3)}
    source, net = small_net(**one), small_net(**one, pos_rfactor=4)
    with pytest.raises(
        UserError, match=r"differ \(file: --pos_rfactor 8, network: --pos_rfactor 4"
    ):
        load_official(net, official_state(source))
    options = {"hanet_set": [3, 60, 3], "pos_rfactor": 8}
    own = {"state_dict": source.state_dict(), "model_options": options}
    for content, reduction in (own, "60"), (official_state(source), "51..60"):
        with pytest.raises(UserError, match=f"were trained with reduction {reduction} "):
            load_official(small_net(hanet=one["hanet"], hanet_set=(3, 16, 3)), content)


def test_an_evaluation_does_without_the_auxiliary_head_in_file_or_network() -> None:
    source, plain = small_net(seed=1, aux_loss=True), small_net(seed=2)
    state = official_state(source)
    report = load_official(plain, state, optional=["dsn"])
    assert len(report.dropped) == 9 and all("dsn." in name for name in report.dropped)
    report = load_official(source, official_state(plain), optional=["dsn"])
    assert len(report.missing) == 8 and all("dsn." in name for name in report.missing)
    with pytest.raises(UserError, match="--aux_loss builds the auxiliary head the file has"):
        load_official(plain, state)
    with pytest.raises(UserError, match="no auxiliary head: --allow_partial dsn starts one anew"):
        load_official(source, official_state(plain))


def test_a_file_with_blocks_does_not_go_into_the_baseline_nor_the_other_way() -> None:
    blocks, plain = small_net(), small_net(hanet=(0,) * 5)
    with pytest.raises(
        UserError, match="has no HANet blocks; .* wants --hanet 1 1 1 1 1 .* 3 16 3"
    ):
        load_official(plain, official_state(blocks))
    with pytest.raises(UserError, match="leave --hanet out"):
        load_official(blocks, official_state(plain))


IMAGENET = {
    "mobilenet_v2": "DeepMobileNetV3PlusD_HANet_OS8",
    "shufflenet_v2_x1_0": "DeepShuffleNetV3PlusD_HANet",
    "mnasnet0_5": "DeepMNASNet05V3PlusD_HANet",
    "resnet50": "DeepR50V3PlusD_HANet",
    "resnext50_32x4d": "DeepResNext50V3PlusD_HANet",
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if "mobile" in n else [pytest.mark.slow]) for n in IMAGENET]
)
def test_a_file_of_torchvision_starts_the_trunk(name: str, tmp_path: Path) -> None:
    source = getattr(models, name)()
    torch.save(source.state_dict(), tmp_path / "file.pth")
    options = {"pretrained": str(tmp_path / "file.pth")}
    net = build_net(f"hanet.{IMAGENET[name]}", NUM_CLASSES, **options)
    own, given = net.backbone.state_dict(), source.state_dict()
    assert len(net.trunk_report.loaded) == len(own)
    assert all(key.startswith(("classifier", "fc")) for key in net.trunk_report.dropped)
    assert sorted(float(v.double().sum()) for v in own.values()) == pytest.approx(
        sorted(float(given[k].double().sum()) for k in given if k not in net.trunk_report.dropped)
    )


@pytest.mark.slow
def test_the_wide_stem_takes_its_own_file_and_no_other(tmp_path: Path) -> None:
    trunk = build_net("hanet.DeepR101V3PlusD_HANet", NUM_CLASSES).backbone
    stem = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
    state = {}
    for key, value in trunk.state_dict().items():
        if key.startswith("layer0."):
            _, index, leaf = key.split(".")
            key = f"{stem[int(index)]}.{leaf}"
        state[key] = value
    torch.save({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "mit.pth")
    torch.save(models.resnet101().state_dict(), tmp_path / "torchvision.pth")
    net = build_net(
        "hanet.DeepR101V3PlusD_HANet", NUM_CLASSES, pretrained=str(tmp_path / "mit.pth")
    )
    assert len(net.trunk_report.loaded) == len(trunk.state_dict())
    with pytest.raises(UserError, match="does not fit the trunk"):
        build_net(
            "hanet.DeepR101V3PlusD_HANet",
            NUM_CLASSES,
            pretrained=str(tmp_path / "torchvision.pth"),
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hanet": (1, 2, 0, 0, 0)}, "hanet 1,2,0,0,0"),
        ({"hanet": (1, 0, 0, 0)}, "five switches"),
        ({"hanet": (1, 0, 0, 0, 0), "hanet_set": (3, 0, 3)}, "reduction that is not 0"),
    ],
)
def test_options_that_describe_no_network_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        small_net(**options)


def test_an_option_of_other_networks_is_refused() -> None:
    with pytest.raises(UserError, match="align_corners=True has no effect"):
        build_net(SMALL, NUM_CLASSES, align_corners=True)


@torch.inference_mode()
def test_fixed_pooling_needs_room_for_a_window() -> None:
    net = small_net(fixed_aspp_pool=True).eval()
    with pytest.raises(UserError, match="105x105 windows, the map has 4x6"):
        net(picture(64, 96))
    x = torch.rand(1, 24, 105, 105)
    torch.testing.assert_close(net.aspp._means(x), x.mean((2, 3), keepdim=True))
