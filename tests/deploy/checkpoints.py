# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of small networks, written as training writes them but for what only it needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from network.contract import Network
from network.convert.checkpoint import HEADER_KEY
from network.convert.input_norm import input_facts
from network.convert.schema import FORMAT
from settings.model import ModelConfig

CLASSES = ("road", "sky", "car")
COLOURS = ((128, 64, 128), (70, 130, 180), (0, 0, 142))
RAW_IDS = (7, 23, 26)


def header_of(net: Network, classes: Sequence[str] = CLASSES) -> dict[str, Any]:
    """What a checkpoint says besides its weights."""
    model = net.model_options or dataclasses.asdict(ModelConfig())
    return {
        "format": FORMAT,
        "arch": net.arch,
        "num_classes": len(classes),
        "model_options": {k: list(v) if isinstance(v, tuple) else v for k, v in model.items()},
        "dataset": "streets",
        "custom": True,
        "class_names": list(classes),
        "palette": [list(COLOURS[number % 3]) for number in range(len(classes))],
        "train_id_to_id": [RAW_IDS[number % 3] for number in range(len(classes))],
        "ignore_label": 255,
        "positions": True,
        **input_facts(net),
        "seed": 0,
        "command": "train.py",
    }


def write_checkpoint(path: Path, net: Network, header: dict[str, Any] | None = None) -> Path:
    """The weights of `net` as a .safetensors file with its header."""
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    entries = header_of(net) if header is None else header
    safetensors.torch.save_file(state, path, metadata={HEADER_KEY: json.dumps(entries)})
    return path
