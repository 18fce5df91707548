# SPDX-License-Identifier: Apache-2.0
"""The top-down attention of a network on one image, stage by stage.

Source: Leung et al., HILA (2022), section 3.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from network.ops.inter_level import TopDownAttention, recorded_attention

# Where the trunks keep the attention of a pair: by both stages, or by the upper layer from 0.
MIT_NAME = re.compile(r"topdown\.\d(\d)\.")
SWIN_NAME = re.compile(r"layers\.(\d)\.top_down\.")


def upper_stage(name: str) -> int:
    """The upper stage, from 1, of the attention module `name`."""
    pair, layer = MIT_NAME.search(name), SWIN_NAME.search(name)
    if pair is not None:
        return int(pair.group(1))
    assert layer is not None, f"{name} tells no stage"
    return int(layer.group(1)) + 1


def topdown_stages(net: nn.Module) -> list[int]:
    """Upper stages, rising, of the pairs that `net` refines from above."""
    named = net.named_modules()
    return sorted({upper_stage(n) for n, m in named if isinstance(m, TopDownAttention)})


@torch.inference_mode()
def topdown_weights(net: nn.Module, image: Tensor) -> dict[int, npt.NDArray[np.float32]]:
    """Weights of the last top-down step of each upper stage on an image (1, 3, H, W).

    Upper stage -> (h, w, P * P), mean over the heads: how much the child in each place of the
    window of a parent listens to that parent. `net` must be in eval mode.
    """
    with recorded_attention(net) as recorded:
        net(image)
    last: dict[int, Tensor] = {}
    for name, module in net.named_modules():  # steps with modules of their own are in order
        if isinstance(module, TopDownAttention) and recorded[name]:
            last[upper_stage(name)] = recorded[name][-1]
    return {
        stage: weights[0].mean(dim=0).permute(1, 2, 0).float().cpu().numpy()
        for stage, weights in sorted(last.items())
    }
