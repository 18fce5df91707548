# SPDX-License-Identifier: Apache-2.0
"""The pyramid, above all with a single value per channel in its pooled branch."""

from __future__ import annotations

import torch

from network.heads.aspp import ASPP
from tests.network.tiny import enliven


def lively() -> ASPP:
    torch.manual_seed(0)
    head = ASPP(6, 4)
    enliven(head)
    return head


def test_the_pooled_branch_comes_first_and_is_constant() -> None:
    out = lively().eval()(torch.randn(2, 6, 9, 7))
    assert out.shape == (2, 20, 9, 7)
    pooled = out[:, :4]
    torch.testing.assert_close(pooled, pooled[:, :, :1, :1].expand_as(pooled))


def test_one_image_per_process_trains_with_the_running_statistics() -> None:
    head = lively().train()
    before = {key: value.clone() for key, value in head.img_conv.state_dict().items()}
    x = torch.randn(1, 6, 9, 7, requires_grad=True)
    pooled = head(x)[:, :4]
    pooled.square().mean().backward()
    after = head.img_conv.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(bool(item.grad.abs().sum() > 0) for item in head.img_conv.parameters())
    torch.testing.assert_close(head.eval()(x)[:, :4], pooled)
    assert head.features[1][1].num_batches_tracked == 1


def test_two_images_train_with_their_own_statistics() -> None:
    head = lively().train()
    head(torch.randn(2, 6, 9, 7))
    assert head.img_conv[1].num_batches_tracked == 1
