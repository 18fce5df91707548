# SPDX-License-Identifier: Apache-2.0
"""The five places of a DeepLab decoder at which a HANet block can gate a map.

0 the last map of the trunk, 1 the ASPP map, 2 its bottleneck, 3 the features under the scores,
4 the scores. Each gate is computed from the map that the gated one was made of.

Source: Choi, Kim, Choo, "Cars Can't Fly up in the Sky" (2020), figure 4.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from network.contract import Network, OneScale
from network.heads.hanet import HANet, gated, hanet_settings, row_gate
from network.outputs import GATE_PREFIX
from runtime.errors import UserError
from settings.model import ModelConfig

PLACES = 5


class HeightGated(OneScale):
    """A decoder with none to five blocks, named `hanet0` ... `hanet4` as in published weights."""

    auxiliary_parts: tuple[str, ...] = ()

    def add_blocks(self, model: ModelConfig, channels: Sequence[tuple[int, int]]) -> None:
        """The blocks that `model.hanet` switches on.

        `channels` of every place: those of the map a gate is computed from, and of the gated one.
        """
        switches = tuple(model.hanet)
        if len(switches) != PLACES or any(switch not in (0, 1) for switch in switches):
            got = ",".join(map(str, switches))
            raise UserError(f"hanet {got}: five switches of 0 or 1 wanted, e.g. 1,1,1,1,0")
        assert len(channels) == PLACES
        settings = hanet_settings(model) if any(switches) else None
        for place, (inputs, outputs) in enumerate(channels):
            if settings is None or not switches[place]:
                continue
            if place == PLACES - 1:  # which classes occur at a height is a question of a maximum
                settings = dataclasses.replace(settings, max_pooling=True)
            self.add_module(f"hanet{place}", HANet(inputs, outputs, settings))

    def block(self, place: int) -> HANet | None:
        """The block at a place."""
        block = self._modules.get(f"hanet{place}")
        assert block is None or isinstance(block, HANet)
        return block

    def gate(self, place: int, lower: Tensor, x: Tensor, rows: Tensor | None) -> Tensor:
        """x (B, C', H', W'), gated if there is a block at `place`."""
        block = self.block(place)
        return x if block is None else gated(x, block(lower, x.shape[2], rows))

    def gate_scores(
        self, lower: Tensor, scores: Tensor, rows: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """The scores (B, K, h, w) of place 4; in training also its logits (B, K, R)."""
        block = self.block(PLACES - 1)
        if block is None or not self.training:
            return self.gate(PLACES - 1, lower, scores, rows), None
        logits = block.row_logits(lower, rows)
        return gated(scores, row_gate(logits, scores.shape[2])), logits


def attention_blocks(net: nn.Module) -> dict[str, HANet]:
    """All HANet blocks of a network by name, in the order data meets them."""
    return {name: block for name, block in net.named_modules() if isinstance(block, HANet)}


def record_gates(net: nn.Module, images: Tensor, rows: Tensor | None) -> dict[str, Tensor]:
    """The gates of one pass at scale 1: `gate_0` ... `gate_4`, each (B, C, h) in 0..1.

    `net` has blocks, alone or inside a multi-scale wrapper.
    """
    single = net.one_scale if isinstance(net, Network) else None
    assert isinstance(single, HeightGated)
    gates: dict[str, Tensor] = {}

    def keep(place: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, gate: Tensor) -> None:
            gates[GATE_PREFIX + place] = gate

        return hook

    hooks = [
        block.register_forward_hook(keep(name.rpartition("hanet")[2]))
        for name, block in attention_blocks(single).items()
    ]
    try:
        single.maps(images, rows, features=False)
    finally:
        for handle in hooks:
            handle.remove()
    return gates
