# SPDX-License-Identifier: Apache-2.0
"""`model.json`, beside an exported model: all that is to know without this program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets.spec import DatasetSpec
from deploy.graph import INPUT, Output, Precision
from deploy.predict import FORMAT, MODEL_JSON, VERSION
from network.contract import Network
from runtime.download import sha256_of
from runtime.files import write_atomic
from runtime.names import printable

LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What an exported file takes and gives.

    size: (H, W) that it takes alone, None for all from `smallest` on.
    """

    file: str
    kind: str
    precision: Precision
    output: Output
    size: tuple[int, int] | None
    smallest: tuple[int, int]


def model_json(
    net: Network, spec: DatasetSpec, snapshot: Path, graph: GraphFacts
) -> dict[str, Any]:
    """The content but for `check` and the hash of the file, which come when it is written."""
    size = graph.size
    return {
        "format": FORMAT,
        "version": VERSION,
        "file": graph.file,
        "kind": graph.kind,
        "precision": graph.precision,
        "output": graph.output,
        "input": {"name": INPUT, "layout": "NHWC", "type": "uint8", "colour": "RGB"},
        "size": None if size is None else list(size),
        "multiple": 1,  # networks pad by themselves
        "smallest": list(graph.smallest if size is None else size),
        "classes": list(spec.class_names),
        "palette": [list(colour) for colour in spec.palette],
        "ids": list(spec.train_id_to_id),
        "ignore_label": spec.ignore_label,
        "dataset": spec.name,
        "mean": list(net.input_norm.mean),
        "std": list(net.input_norm.std),
        "arch": net.arch,
        "n_scales": sorted(getattr(net, "scales", ())) or None,
        "snapshot": {"file": printable(snapshot.name), "sha256": sha256_of(snapshot)},
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the libraries that made the file."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_model_json(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `content` with the hash of the model file beside it; OSError if it cannot be."""
    whole = {**content, "file_sha256": sha256_of(folder / content["file"])}
    write_atomic(folder / MODEL_JSON, (json.dumps(whole, indent=2) + "\n").encode())
