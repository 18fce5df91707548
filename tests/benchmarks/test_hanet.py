# SPDX-License-Identifier: Apache-2.0
"""The HANet benchmark compares like with like."""

from __future__ import annotations

import torch

from benchmarks.hanet import ARCHS, build, shares, without_blocks
from network.height_gates import attention_blocks


@torch.inference_mode()
def test_the_baseline_is_the_same_network_without_its_blocks() -> None:
    net = build(ARCHS["quick"], 64)
    plain = without_blocks(net)
    assert len(attention_blocks(net)) == 4 and not attention_blocks(plain)
    assert plain.final2 is net.final2
    image, rows = torch.randn(1, 3, 64, 64), ((torch.arange(64) + 0.5) / 64)[None]
    before = net(image, rows)["pred"]
    inside, whole = shares(net, lambda: net(image, rows), 1)
    assert 0 < inside < whole
    assert torch.equal(net(image, rows)["pred"], before)
    assert not torch.allclose(plain(image, rows)["pred"], before)
