# SPDX-License-Identifier: Apache-2.0
"""The top-down attention of a network on one image, stage by stage.

Source: Leung et al., HILA (2022), section 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from network.backbones.hila_update import HilaTrunk
from network.contract import Network
from network.ops.inter_level import recorded_attention


def _hila_trunk(net: nn.Module) -> HilaTrunk | None:
    trunk = net.trunk if isinstance(net, Network) else None
    return trunk if isinstance(trunk, HilaTrunk) else None


def topdown_stages(net: nn.Module) -> list[int]:
    """Upper stages, rising, of the pairs that `net` refines from above."""
    trunk = _hila_trunk(net)
    if trunk is None:
        return []
    return [stage for stage in sorted(trunk.hila.stages) if trunk.topdown_attentions(stage)]


@torch.inference_mode()
def topdown_weights(net: nn.Module, image: Tensor) -> dict[int, npt.NDArray[np.float32]]:
    """Weights of the last top-down step of each upper stage on an image (1, 3, H, W).

    Upper stage -> (h, w, P * P), mean over the heads: how much the child in each place of the
    window of a parent listens to that parent. `net` must be in eval mode.
    """
    trunk, names = _hila_trunk(net), {module: name for name, module in net.named_modules()}
    with recorded_attention(net) as recorded:
        net(image)
    found = {}
    for stage in topdown_stages(net):
        assert trunk is not None
        last = [recorded[names[each]][-1] for each in trunk.topdown_attentions(stage)][-1]
        found[stage] = last[0].mean(dim=0).permute(1, 2, 0).float().cpu().numpy()
    return found
