# SPDX-License-Identifier: Apache-2.0
"""Exports of small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec
from deploy.compare import Check
from deploy.export import Request, write
from deploy.loading import Loaded
from network.contract import Network
from settings import Settings
from tests.deploy.checkpoints import CLASSES, COLOURS, RAW_IDS, write_checkpoint

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
    file = write_checkpoint(folder.with_suffix(".safetensors"), net)
    loaded = Loaded(net=net.eval(), spec=SPEC, settings=Settings(), file=file)
    return write(Request(**flags), loaded, folder)
