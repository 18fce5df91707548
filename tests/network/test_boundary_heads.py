# SPDX-License-Identifier: Apache-2.0
"""Boundary heads on networks of every family."""

from __future__ import annotations

import pytest
import torch

from network.build import build_net
from network.contract import run_boundary_in_eval
from network.outputs import DIRECTION, MASK, PRED
from tests.network.tiny import tiny_net

FAMILIES = (
    "ocrnet.HRNet",
    "ocrnet.HRNet_Mscale",
    "deepv3.DeepV3PlusR50",
    "deeper.DeeperW38",
    "basic.HRNet_ASP",
    "mscale.DeepV3W38Fuse",
    "mscale2.HRNet",
    "attnscale.DeepV3R50",
    "hanet.DeepMNASNet05V3PlusD_HANet",
)


@pytest.mark.parametrize("arch", FAMILIES)
def test_heads_speak_in_training_and_are_silent_in_evaluation(arch: str) -> None:
    net = tiny_net(arch, boundary_heads=True)
    images = torch.rand(2, 3, 64, 64)
    outputs = net.train()(images)
    assert outputs[MASK].shape[:2] == (2, 2) and outputs[DIRECTION].shape[:2] == (2, 8)
    (outputs[MASK].sum() + outputs[DIRECTION].sum()).backward()
    missing = [n for n, p in net.named_parameters() if "boundary" in n and p.grad is None]
    assert not missing
    with torch.no_grad():
        plain = net.eval()(images)
        assert set(plain) == {PRED}
        run_boundary_in_eval(net)
        asked = net(images)
        assert set(asked) == {PRED, MASK, DIRECTION}
        assert torch.equal(asked[PRED], plain[PRED])


def test_scores_do_not_depend_on_the_heads() -> None:
    torch.manual_seed(0)
    plain = tiny_net("deepv3.DeepV3PlusR50").eval()
    with_heads = tiny_net("deepv3.DeepV3PlusR50", boundary_heads=True).eval()
    with_heads.load_state_dict(plain.state_dict(), strict=False)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(plain(images)[PRED], with_heads(images)[PRED])


def test_a_network_with_heads_of_its_own_gets_no_others() -> None:
    with torch.device("meta"):
        net = build_net("unept.R50", 5, boundary_heads=True)
    assert not [name for name, _ in net.named_parameters() if name.startswith("boundary")]
