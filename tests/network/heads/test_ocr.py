# SPDX-License-Identifier: Apache-2.0
"""The OCR head, in its plain form against the formulas and in its tiled form against the plain."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from network.heads.ocr import ObjectContext, OCRHead, gather
from network.heads.ocr_tiled import TiledOCR
from network.inference import fold_batch_norms
from tests.network.tiny import enliven


@torch.inference_mode()
def test_class_vectors_are_means_over_the_pixels() -> None:
    feats, coarse = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    got = gather(feats, coarse)
    assert got.shape == (2, 4, 6, 1)
    weights = (coarse[1, 2] - coarse[1, 2].logsumexp((0, 1))).exp()
    torch.testing.assert_close(got[1, :, 2, 0], (feats[1] * weights).sum((1, 2)))


@torch.inference_mode()
def test_class_vectors_keep_their_precision_under_16_bit_autocast() -> None:
    feats, coarse = torch.rand(1, 4, 96, 96), torch.randn(1, 6, 96, 96)
    want = gather(feats, coarse)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gather(feats, coarse), want)
    assert gather(feats.half(), coarse.half()).dtype == torch.float16


@torch.inference_mode()
def test_a_pixel_attends_to_classes_by_scaled_products() -> None:
    block = ObjectContext(4, 8)
    enliven(block)
    block.eval()
    feats, objects = torch.randn(1, 4, 3, 5), torch.randn(1, 4, 6, 1)
    query, key = block.f_pixel(feats)[0, :, 1, 2], block.f_object(objects)[0, :, :, 0]
    weights = (query @ key / 8**0.5).softmax(0)
    context = (block.f_down(objects)[0, :, :, 0] @ weights).view(1, 8, 1, 1)
    torch.testing.assert_close(block(feats, objects)[0, :, 1, 2], block.f_up(context)[0, :, 0, 0])


class Branches(nn.Module):
    """An OCR head behind fixed maps, so that it can be sent an image."""

    def __init__(self, head: OCRHead, maps: list[torch.Tensor]) -> None:
        super().__init__()
        self.head, self.maps = head, maps

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.head(self.maps).logits


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("align_corners", [False, True])
@torch.inference_mode()
def test_the_tiled_head_answers_as_the_plain_one(batch: int, align_corners: bool) -> None:
    torch.manual_seed(0)
    channels, sizes = (3, 6, 12, 24), [(21, 30), (11, 15), (6, 8), (3, 4)]
    head = OCRHead(channels, 5, mid_channels=16, key_channels=8, align_corners=align_corners)
    enliven(head)
    maps = [torch.randn(batch, c, *size) for c, size in zip(channels, sizes, strict=True)]
    want = head.eval()(maps)
    fold_batch_norms(Branches(head, maps), torch.empty(0))
    tiled = TiledOCR(head, tile=8)
    got = tiled(maps)
    for name in ("logits", "aux", "feats"):
        one, other = getattr(want, name), getattr(got, name)
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        tiled(maps, features=False).logits, want.logits, rtol=1e-4, atol=1e-4
    )
