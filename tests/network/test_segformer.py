# SPDX-License-Identifier: Apache-2.0
"""SegFormer: shapes, training, sizes, loading of published files."""

from __future__ import annotations

import pytest
import torch

from config import UserError
from engine.predict import multi_scale, whole
from network.build import build_net
from network.convert import load_official
from network.inference import prepare_for_inference
from tests.network.tiny import picture

SHALLOW = {"stage_depths": (1, 1, 1, 1)}


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (61, 95), (4, 4), (29, 28), (5, 70)])
@torch.inference_mode()
def test_any_size_gives_scores_at_the_size_of_the_input(size: tuple[int, int]) -> None:
    outputs = build_net("segformer.B0", 3, **SHALLOW).eval()(picture(*size))
    assert {key: tuple(value.shape) for key, value in outputs.items()} == {"pred": (1, 3, *size)}


def test_an_image_smaller_than_a_patch_is_one_clear_line() -> None:
    net = build_net("segformer.B0", 3, **SHALLOW)
    with pytest.raises(UserError, match="^an image of 90x3 pixels is smaller than one patch.* 4$"):
        net(picture(3, 90))


def test_a_refused_copy_of_another_scale_says_so() -> None:
    net = build_net("segformer.B0_Mscale", 3, **SHALLOW, n_scales=(0.3, 1.0)).eval()
    with pytest.raises(UserError, match=r"^at scale 0\.3 an image of 27x3 pixels is smaller"):
        net(picture(10, 90))
    with pytest.raises(UserError, match="^an image of 90x3 pixels is smaller"):
        multi_scale(whole(build_net("segformer.B0", 3, **SHALLOW).eval()), (1.0,))(picture(3, 90))


def test_training_reaches_every_parameter_with_and_without_recomputation() -> None:
    torch.manual_seed(0)
    net = build_net("segformer.B0", 3, drop_path=0.0).train()
    net.decode_head.dropout.p = 0.0
    gradients = []
    for recompute in (False, True):
        net.backbone.grad_ckpt = recompute
        net.zero_grad()
        net(picture(33, 47, batch=2))["pred"].square().mean().backward()
        gradients.append([item.grad.clone() for item in net.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_stochastic_depth_rises_to_the_rate_that_is_asked_for() -> None:
    net = build_net("segformer.B0", 3, drop_path=0.7)
    rates = [block.drop_path.rate for stage in (1, 2, 3, 4) for block in net.backbone.blocks(stage)]
    assert rates == pytest.approx([0.1 * index for index in range(8)])
    first, last = net.backbone.blocks(4)[0], net.backbone.blocks(4)[1]
    tokens = torch.randn(64, 2, 2, 256)
    dropped = (last.train()(tokens) == tokens).flatten(1).all(dim=1)
    assert 0 < int(dropped.sum()) < 64
    assert torch.equal(first.eval()(tokens), first(tokens))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "published"),
    [(2, 27_363_686), (3, 47_239_526), (4, 64_010_086), (5, 84_610_406)],
)
def test_the_large_sizes_have_the_published_parameters(size: int, published: int) -> None:
    with torch.device("meta"):
        net = build_net(f"segformer.B{size}", 19)
    unused_classifier = 128 * 19 + 19
    assert sum(item.numel() for item in net.parameters()) + unused_classifier == published


def test_published_entries_without_effect_are_dropped_and_named() -> None:
    net = build_net("segformer.B0", 3, **SHALLOW)
    unused = {"decode_head.conv_seg.weight": torch.zeros(3, 128, 1, 1)}
    report = load_official(net, {"state_dict": {**net.state_dict(), **unused}})
    assert report.dropped == ("decode_head.conv_seg.weight",)


def test_the_prepared_form_answers_the_same() -> None:
    net = build_net("segformer.B0", 3, **SHALLOW).eval()
    image = picture(45, 64)
    with torch.inference_mode():
        want, got = net(image)["pred"], prepare_for_inference(net)(image)["pred"]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_a_stage_without_a_block_is_refused() -> None:
    with pytest.raises(UserError, match="stage_depths=1,0,1,1"):
        build_net("segformer.B0", 3, stage_depths=(1, 0, 1, 1))
