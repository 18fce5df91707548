# SPDX-License-Identifier: Apache-2.0
"""An export without a network, for tests of what reads exports."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper


def red_export(out: Path) -> Path:
    """The new folder `out` with an export that says for every pixel whether red is over 127."""
    out.mkdir()
    nodes = [
        helper.make_node("Split", ["image"], ["red", "green", "blue"], axis=3, num_outputs=3),
        helper.make_node("Squeeze", ["red", "last"], ["flat"]),
        helper.make_node("BitShift", ["flat", "seven"], ["ids"], direction="RIGHT"),
    ]
    constants = [
        helper.make_tensor("last", TensorProto.INT64, [1], [3]),
        helper.make_tensor("seven", TensorProto.UINT8, [], [7]),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "h", "w", 3])],
        [helper.make_tensor_value_info("ids", TensorProto.UINT8, [1, "h", "w"])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, out / "model.onnx")
    spec = {
        "format": "hiseg-export", "version": 1, "file": "model.onnx", "kind": "onnx",
        "precision": "fp32", "output": "ids", "input": {"name": "image"}, "size": None,
        "multiple": 1, "smallest": [4, 4], "classes": ["dark", "red"], "ids": [7, 300],
        "palette": [[0, 0, 0], [255, 0, 0]],
    }  # fmt: skip
    (out / "model.json").write_text(json.dumps(spec))
    return out


def changed(folder: Path, **entries: object) -> Path:
    """`folder` with other entries in model.json."""
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    return folder
