# SPDX-License-Identifier: Apache-2.0
"""HILA on MiT: sizes, options, schedules of the updates, training."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from config import UserError
from network.backbones.hila_swin import HilaSwin
from network.backbones.hila_update import Four, Hila, down_steps, up_steps
from network.build import build_net
from network.convert import load_official
from tests.network.tiny import picture

PUBLISHED = {  # with 19 classes, without the classifier that nothing uses
    "B0_S3": 4_146_886,
    "B1_S3": 15_354_534,
    "B1_S234": 21_576_486,
    "B2_S234": 30_836_006,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_published_names_have_the_published_parameters(name: str, published: int) -> None:
    with torch.device("meta"):
        net = build_net(f"hila.{name}", 19)
    assert sum(item.numel() for item in net.parameters()) + 128 * 19 + 19 == published


@pytest.mark.parametrize(
    ("depth", "stride", "ups", "downs"),
    [
        (2, 1, [0, 1], [0]),
        (3, 1, [0, 1, 2], [0, 1]),
        (6, 2, [0, 2, 4], [1, 3]),
        (6, 3, [0, 3], [1, 4]),
        (1, 1, [0], []),
        (2, 2, [0], []),
    ],
)
def test_when_the_levels_exchange(
    depth: int, stride: int, ups: list[int], downs: list[int]
) -> None:
    assert (up_steps(depth, stride), down_steps(depth, stride)) == (ups, downs)


UNSHARED = {
    "hila_share_topdown": False,
    "hila_share_bottomup": False,
    "hila_share_bottom": False,
    "stage_depths": (1, 1, 3, 1),
}


@pytest.mark.parametrize(
    "options",
    [{}, UNSHARED, {"hila_stages": (2, 4), "hila_patch": 6, "hila_heads": (2, 2, 4, 1)}],
    ids=["published", "unshared", "other"],
)
def test_any_size_trains_every_parameter(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = build_net("hila.B0_S34", 3, **options).train()
    outputs = net(picture(33, 47, batch=2))
    assert outputs["pred"].shape == (2, 3, 33, 47)
    outputs["pred"].square().mean().backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []


@torch.inference_mode()
def test_pictures_smaller_than_a_patch_of_the_reduced_keys() -> None:
    net = build_net("hila.B0_S34", 3, hila_stages=(2, 3, 4)).eval()
    for size in ((4, 4), (5, 28), (70, 9)):
        scores = net(picture(*size))["pred"]
        assert scores.shape == (1, 3, *size) and bool(scores.isfinite().all())


def test_recomputation_changes_nothing() -> None:
    torch.manual_seed(0)
    net = build_net("hila.B0_S3", 3, drop_path=0.0).train()
    net.decode_head.dropout.p = 0.0
    gradients = []
    for recompute in (False, True):
        net.backbone.grad_ckpt = recompute
        net.zero_grad()
        net(picture(33, 33, batch=2))["pred"].square().mean().backward()
        gradients.append([item.grad.clone() for item in net.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


@torch.inference_mode()
def test_levels_that_do_not_exchange_stay_those_of_segformer() -> None:
    torch.manual_seed(0)
    with_hila = build_net("hila.B0_S3", 3).eval()
    plain = build_net("segformer.B0", 3).eval()
    shared = {k: v for k, v in with_hila.state_dict().items() if k in plain.state_dict()}
    load_official(plain, shared)
    ours, theirs = with_hila.backbone(picture(64, 64)), plain.backbone(picture(64, 64))
    assert torch.equal(ours[0], theirs[0])
    assert all(not torch.equal(a, b) for a, b in zip(ours[1:], theirs[1:], strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hila_stages": (1, 3)}, "hila_stages=1,3: some of 2,3,4 wanted"),
        ({"hila_stages": (3, 3)}, "hila_stages=3,3"),
        ({"hila_stages": ()}, "hila_stages names no stage.*segformer.B0.*swin.T_UPerNet"),
        ({"hila_stride": (1, 1, 0, 1)}, "hila_stride=1,1,0,1"),
        ({"hila_patch": 5}, "hila_patch=5: 2, 4, 6 or 8 wanted"),
        ({"hila_heads": (1, 3, 1, 1)}, "hila_heads=1,3,1,1: 64 channels of stage 2"),
    ],
)
def test_impossible_options_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_net("hila.B0_S3", 3, **options)


def tiny_swin(depths: Four, stages: tuple[int, ...], **options: bool) -> HilaSwin:
    torch.manual_seed(0)
    hila = Hila(stages=stages, **options)
    return HilaSwin(12, depths, (3, 3, 3, 3), hila, drop_path=0.0).eval()


@torch.inference_mode()
def test_swin_answers_alike_on_every_call_unless_asked_for_the_published_turning() -> None:
    net = tiny_swin((1, 2, 2, 1), (2, 3, 4))
    image = picture(64, 96)
    first = net(image)
    assert all(torch.equal(a, b) for a, b in zip(first, net(image), strict=True))
    net.hila = dataclasses.replace(net.hila, legacy_shift=True)
    assert torch.equal(net(image)[0], first[0])
    assert not torch.equal(net(image)[0], first[0])
    assert torch.equal(net(image)[0], first[0])


@torch.inference_mode()
def test_swin_levels_without_exchange_are_normed_unless_asked_for_the_published_ones() -> None:
    for raw in (False, True):
        net = tiny_swin((1, 1, 1, 1), (2,), raw_levels=raw)
        normed = [
            bool(each.std(dim=1, correction=0).sub(1).abs().max() < 0.1)
            for each in net(picture(64, 96))
        ]
        assert normed[1:] == [not raw, not raw, True]


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["hila.SwinT_S234", "swin.T_UPerNet"])
def test_swin_trains_every_parameter_at_any_size(arch: str) -> None:
    net = build_net(arch, 3, stage_depths=(1, 2, 2, 1)).train()
    outputs = net(picture(65, 93, batch=2))
    assert {key: tuple(each.shape) for key, each in outputs.items()} == {
        "pred": (2, 3, 65, 93),
        "aux": (2, 3, 65, 93),
    }
    sum(each.square().mean() for each in outputs.values()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []


@pytest.mark.parametrize("arch", ["segformer.B0_224", "hila.B0_S34_224"])
def test_classifiers_give_one_score_a_class_and_train_whole(arch: str) -> None:
    net = build_net(arch, 5).train()
    pred = net(picture(64, 64, batch=2))["pred"]
    assert pred.shape == (2, 5)
    pred.square().mean().backward()
    idle = [name for name, x in net.named_parameters() if x.grad is None and x.requires_grad]
    assert idle == []


@pytest.mark.slow
def test_swin_classifiers_train_whole() -> None:
    for arch in ("swin.T_224", "hila.SwinT_S234_224"):
        net = build_net(arch, 5, stage_depths=(1, 1, 2, 2)).train()
        net(picture(64, 64, batch=2))["pred"].square().mean().backward()
        idle = [name for name, x in net.named_parameters() if x.grad is None and x.requires_grad]
        assert idle == []
