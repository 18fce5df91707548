# SPDX-License-Identifier: Apache-2.0
"""Exports of small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from datasets.spec import DatasetSpec
from datasets.synthetic_scene import render
from deploy.compare import Check
from deploy.export import Request, write
from deploy.loading import Loaded
from network.contract import Network
from network.outputs import PRED
from settings import Settings
from tests.deploy.checkpoints import CLASSES, COLOURS, RAW_IDS, write_checkpoint
from tests.network.tiny import tiny_net
from transforms.normalize import to_network

SPEC = DatasetSpec(
    name="streets",
    class_names=CLASSES,
    palette=COLOURS,
    id_to_train_id={raw: train for train, raw in enumerate(RAW_IDS)},
    ignore_label=255,
    train_id_to_id=RAW_IDS,
    custom=True,
)


def export(net: Network, folder: Path, **flags: Any) -> list[Check]:
    """Write an export of `net` into the new `folder`; the comparisons with PyTorch."""
    folder.mkdir()
    if flags.get("dynamic") and "image" not in flags:  # the usual one is large
        flags["image"] = folder.with_suffix(".png")
        Image.fromarray(render((0,), 96, 160)[0]).save(flags["image"])
    file = write_checkpoint(folder.with_suffix(".safetensors"), net)
    loaded = Loaded(net=net.eval(), spec=SPEC, settings=Settings(), file=file)
    return write(Request(**flags), loaded, folder)


@torch.no_grad()
def lively_hrnet() -> Network:
    """A tiny HRNet with OCR that gives each class to about a third of a scene."""
    net = tiny_net("ocrnet.HRNet").eval()
    assert isinstance(net, Network)
    scene = torch.from_numpy(render((1,), 136, 200)[0])[None]
    scores = net(to_network(scene))[PRED]
    bias = net.get_submodule("ocr.cls_head").get_parameter("bias")
    bias -= scores.median(-1).values.median(-1).values[0]
    return net
