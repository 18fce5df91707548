# SPDX-License-Identifier: Apache-2.0
"""Recorded networks under the key names of mmsegmentation 1.x."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from config import UserError
from network.build import build_net
from network.convert import load_official
from network.outputs import PRED
from tests.parity.core import Check, Row, one_line
from tests.parity.fixture import CannotRun, Fixture
from tests.parity.networks import (
    draw_images,
    output_rows,
    params_rows,
    recorded_state,
    resolve,
)

STAGE = "stage{}"
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
FAMILIES = {  # name of a configuration file -> architecture here and its options
    r"segformer_mit-b(?P<size>\d)": ("segformer.B{size}", {}),
    r"ocrnet_hr(?P<size>\d+)": ("ocrnet.HRNet", {"hrnet_width": "size"}),
    r"swin-(?P<size>tiny|small|base)-.*upernet": ("swin.{letter}_UPerNet", {}),
}


def arch_of(config: str) -> tuple[str, dict[str, int]]:
    """Architecture and options for a published configuration file; CannotRun if unknown."""
    stem = PurePosixPath(config).stem
    for pattern, (arch, options) in FAMILIES.items():
        if found := re.match(pattern, stem):
            parts = found.groupdict()
            name = arch.format(**parts, letter=parts["size"][:1].upper())
            return name, {key: int(parts[group]) for key, group in options.items()}
    raise CannotRun(f"config: {config} is no known configuration")


def build(fixture: Fixture) -> nn.Module:
    """The network of a fixture in eval mode with the recorded weights."""
    header = fixture.header
    arch, options = arch_of(header["config"])
    if header.get("align_corners", False):
        options = {**options, "align_corners": True}
    net = build_net(resolve(arch), header["num_classes"], **options)
    try:
        load_official(net, recorded_state(fixture))
    except UserError as error:
        raise CannotRun(f"layout {header['layout']}: {one_line(error)}") from error
    return net.eval()


def parameters_in(manifest: dict[str, list[Any]]) -> int:
    """Parameters among the recorded entries; the same layers may have other biases here."""
    entries = {key: shape for key, (shape, _) in manifest.items() if not key.endswith(BUFFERS)}
    return sum(math.prod(shape) for shape in entries.values())


@torch.inference_mode()
def check_layout(fixture: Fixture) -> list[Row]:
    """Scores at the size of the input, and the maps of all stages of the trunk."""
    net, manifest = build(fixture), fixture.header["manifest"].plain()
    images = draw_images(fixture.header["input"])
    outputs: dict[str, Tensor] = {PRED: net(images)[PRED]}
    for number, x in enumerate(net.backbone(images), start=1):
        outputs[STAGE.format(number)] = x
    return params_rows(fixture, parameters_in(manifest)) + output_rows(fixture, outputs)


CHECKS = (
    Check(
        "mmseg 1.x network",
        lambda fixture: str(fixture.header.peek().get("layout", "")).startswith("mmseg"),
        check_layout,
        {"layout": "the keys are recognised by themselves", "config": "chooses the network"},
    ),
)
