# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds by stage."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from network.backbones.trunk import Trunk
from network.build import build_net, list_archs
from network.count import count_macs
from tools import summary


class Layers(nn.Module):
    """One of each kind that is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.linear(self.norm(self.conv(images)).permute(0, 2, 3, 1).flatten(1, 2))
        x = nn.functional.layer_norm(x, (6,))
        return nn.functional.scaled_dot_product_attention(x, x, x) + x @ x.mT @ x


def test_each_kind_of_layer_counts_as_the_convention_says() -> None:
    net = Layers()
    macs = count_macs(net, (8, 8), dict(net.named_children()))
    found = {name: (each.computed, each.published) for name, each in macs.items()}
    pixels, products = 16, 16 * 16 * 6
    assert found == {
        "conv": (pixels * 4 * 27, pixels * 4 * 28),  # one more for the bias
        "norm": (0, pixels * 4 * 2),
        "linear": (pixels * 4 * 6, pixels * 4 * 6),
        "": (4 * products, 2 * products + pixels * 6),  # half of all attention products
    }


def test_counting_leaves_the_network_as_it_was() -> None:
    net = Layers().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    count_macs(net, (8, 8), {})
    assert net.training and not net.conv._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def published_gmacs(arch: str, num_classes: int, side: int) -> float:
    net = build_net(arch, num_classes)
    return count_macs(net, (side, side), {"all": net})["all"].published / 1e9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "num_classes", "side", "published"),
    [
        ("hrvit.b1_SegFormer", 150, 512, 14.64),
        ("hrvit.b1_SegFormer", 19, 512, 14.08),
        ("hrvit.b2_SegFormer", 150, 512, 27.96),
        ("hrvit.b2_SegFormer", 19, 512, 27.41),
        ("hrvit.b3_SegFormer", 150, 512, 67.88),
        ("hrvit.b3_SegFormer", 19, 512, 66.23),
        ("hrvit.b1_UPerNet", 150, 512, 219.31),
        ("hrvit.b2_UPerNet", 150, 512, 232.91),
        ("hrvit.b3_UPerNet", 150, 512, 236.44),
        ("hrvit.b1_224", 1000, 224, 2.70),
        ("hrvit.b2_224", 1000, 224, 5.14),
        ("hrvit.b3_224", 1000, 224, 5.72),
    ],
)
def test_the_published_flops_are_reproduced(
    arch: str, num_classes: int, side: int, published: float
) -> None:
    assert published_gmacs(arch, num_classes, side) == pytest.approx(published, abs=0.005)


class TwoStages(Trunk):
    """A trunk with a list of stages, which the table opens."""

    channels, strides = (5,), (1,)

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            images = stage(images)
        return images


class Whole(nn.Module):
    """The trunk with a head and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = TwoStages()
        self.decode_head = nn.Sequential(nn.Conv2d(5, 6, 1), nn.ReLU())
        self.scale = nn.Parameter(torch.ones(7))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decode_head(self.backbone(images))


def test_the_table_adds_up_and_names_every_stage() -> None:
    net = Whole()
    first, *rows, total = summary.table(net, (64, 96))
    assert first.split() == ["parameters", "GMACs", "published"]
    names = [row.split()[0] for row in rows]
    assert names == ["backbone.stages.0", "backbone.stages.1", "decode_head", "elsewhere"]
    parameters = [int(row.split()[1].replace(",", "")) for row in rows]
    assert parameters[-1] == 7  # no part has them
    assert sum(parameters) == int(total.split()[1].replace(",", "")) == summary.num_parameters(net)


@pytest.mark.slow
def test_every_family_has_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    families = {arch.split(".")[0]: arch for arch in list_archs()}
    for arch in families.values():
        assert summary.main([arch, "--size", "128,160"]) == 0, arch
    assert capsys.readouterr().out.count("total") == len(families)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hrvit.b4_SegFormer"], "did you mean hrvit.b"),
        (["hrvit.b1_SegFormer", "--size", "512"], "--size 512: H,W in pixels wanted"),
        (["hrvit.b1_SegFormer", "--n_scales", "1"], "n_scales=(1.0,) has no effect"),
        (["ocrnet.HRNet_Mscale", "--n_scales", "a"], "--n_scales a: numbers wanted"),
        (["hrvit.b1_SegFormer", "--num_classes", "0"], "at least one class"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert summary.main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1
    assert shown.out == shown.err
