# SPDX-License-Identifier: Apache-2.0
"""Recorded HANet blocks by themselves."""

from __future__ import annotations

import torch

from network.heads.hanet import HANet, HANetSettings, gated
from tests.parity import recipe
from tests.parity.core import Check, Row
from tests.parity.fixture import Fixture
from tests.parity.hanet_networks import REMARKS, filled_state, map_rows
from tests.parity.networks import count_parameters, manifest_rows, output_rows, params_rows


@torch.inference_mode()
def check_block(fixture: Fixture) -> list[Row]:
    """One block on drawn maps: its gate with and without positions, and the gated map."""
    header, c = fixture.header, fixture.header["config"]
    settings = HANetSettings(
        kernel=c["kernel_size"],
        reduction=c["r_factor"],
        layers=c["layer"],
        injection=c["pos_injection"],
        sinusoid=c["is_encoding"] == 1,
        row_steps=c["pos_rfactor"],
        max_pooling=c["pooling"] != "mean",
        dropout=c["dropout_prob"],
        noise=c["pos_noise"],
    )
    block = HANet(c["in_channel"], c["out_channel"], settings).eval()
    rows = manifest_rows(fixture, block) + params_rows(fixture, count_parameters(block))
    if not rows[0].ok:
        return rows
    block.load_state_dict(filled_state(fixture, block))
    x, out = (
        torch.from_numpy(recipe.tensor(spec["key"], spec["shape"], gain=spec["gain"]))
        for spec in (header["input"]["x"], header["input"]["out"])
    )
    span, height = header["pos"]["rows"], out.shape[2]
    positions = None
    if span is not None:  # every second sample upside down
        down = map_rows(*span)
        positions = torch.cat([down.flip(1) if i % 2 else down for i in range(len(x))])
    gate = block(x, height, positions)
    got = {
        "attention": gate,
        "out": gated(out, gate),
        "attention_nopos": block(x, height, None),
    }
    return rows + output_rows(fixture, got, sample=True)


CHECKS = (
    Check(
        "hanet block",
        lambda fixture: fixture.header.get("kind") == "block",
        check_block,
        {**REMARKS, "arch": "the only kind of block", "num_classes": "a block has none"},
    ),
)
