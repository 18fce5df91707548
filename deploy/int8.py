# SPDX-License-Identifier: Apache-2.0
"""An exported ONNX file in 8-bit integers, by ONNX Runtime's static quantisation."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

# What has integer kernels on CPUs. Resizes stay: they are of scores, and gain nothing.
QUANTISED = ("Add", "AveragePool", "Concat", "Conv", "Gemm", "MatMul", "MaxPool", "Relu")
PRODUCTS = ("Conv", "Gemm", "MatMul")


def float_nodes(graph: Any) -> list[str]:
    """Nodes that stay in floating point: the normalisation of the image, and the classifier.

    The first are all before the first product, the second is the last product of the graph.
    """
    places = [place for place, node in enumerate(graph.node) if node.op_type in PRODUCTS]
    kept = [node.name for node in graph.node[: places[0]]]
    return [*kept, graph.node[places[-1]].name]


class Reader:
    """Calibration images in the form that ONNX Runtime asks for."""

    def __init__(self, name: str, images: Iterable[Picture]) -> None:
        self.name, self.images = name, iter(images)

    def get_next(self) -> dict[str, Picture] | None:
        """The next image as an input of the graph."""
        image = next(self.images, None)
        return None if image is None else {self.name: np.ascontiguousarray(image)[None]}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the advice that ONNX Runtime logs, and its tracebacks of what then fails anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def quantise(source: Path, target: Path, name: str, images: Iterable[Picture]) -> None:
    """Write `source` with weights and activations of 8 bits as `target`.

    Ranges of activations are the extremes on `images`; weights have a scale for each channel.
    `name` is that of the graph's input.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with quiet(), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared, load_external_data=False).graph
        quantization.quantize_static(
            prepared,
            target,
            Reader(name, images),
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=float_nodes(graph),
            per_channel=True,
        )
