# SPDX-License-Identifier: Apache-2.0
"""The HRViT benchmark compares like with like."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from benchmarks.hrvit import as_written, build, draw, ours
from network import hrvit
from network.inference import prepare_for_inference
from tests.network.backbones.tiny_hrvit import TINY


@pytest.mark.parametrize("size", [(64, 96), (53, 61)])
def test_both_sides_give_the_same_scores(size: tuple[int, int]) -> None:
    with mock.patch.object(hrvit, "VARIANTS", {"b1": TINY}):
        net, image = build("b1", num_classes=5), draw(size)
    got, want = ours(prepare_for_inference(net), False, image), as_written(net, image)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
