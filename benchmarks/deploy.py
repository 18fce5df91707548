# SPDX-License-Identifier: Apache-2.0
"""One forward pass in PyTorch, compiled, in ONNX Runtime and in its 8-bit form.

    python -m benchmarks.deploy --size 128,256 --archs efficientnet.lite0_DeepV3Plus
    python -m benchmarks.deploy                      # 512x1024, six networks: an hour

Needs `pip install ".[export]"`. One thread, CPU time, random weights. All sides take an image in
bytes and end with class ids; eager PyTorch is what `eval.py` runs, batch norms folded. Peak memory
is what a call takes beyond the loaded network, in a process of its own; compiling and exporting
are not counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch

from benchmarks.measure import measure, print_table
from benchmarks.program import make_parser
from datasets.synthetic_scene import render
from deploy import int8
from deploy.export import size as size_of
from deploy.graph import INPUT, ExportGraph
from deploy.onnx_file import save_onnx
from deploy.program import Size, export_program
from network.build import build_net
from network.inference import compiled, prepare_for_inference

ARCHS = (
    "ocrnet.HRNet18",
    "segformer.B1",
    "deepv3.DeepV3PlusR50",
    "hrvit.b1_SegFormer",
    "swin.T_UPerNet",
    "efficientnet.lite0_DeepV3Plus",
)
EAGER, COMPILED, FLOAT, INTEGER = "eager", "torch.compile", "onnxruntime fp32", "onnxruntime int8"
FILES = {FLOAT: "fp32.onnx", INTEGER: "int8.onnx"}
NUM_CLASSES, CALIBRATION = 19, 4


def graph_of(arch: str, *, prepared: bool) -> ExportGraph:
    """The network with random weights from bytes to ids, as it is or as evaluation runs it."""
    torch.manual_seed(0)
    net = build_net(arch, NUM_CLASSES).eval().requires_grad_(False)
    return ExportGraph(prepare_for_inference(net) if prepared else net, output="ids").eval()


def write_files(arch: str, size: Size, folder: Path) -> None:
    """Export `arch` into `folder`, in fp32 and in 8 bits."""
    made = export_program(graph_of(arch, prepared=False), size, "onnx")
    save_onnx(made, folder / FILES[FLOAT], "ids")
    scenes = (render((0, number), *size)[0] for number in range(CALIBRATION))
    int8.quantise(folder / FILES[FLOAT], folder / FILES[INTEGER], INPUT, scenes)


def make(side: str, arch: str, size: Size, folder: Path) -> Callable[[], object]:
    """A call of one side on the same scene, warmed up."""
    torch.set_num_threads(1)
    image = render((1,), *size)[0][None]
    if side in FILES:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            str(folder / FILES[side]), options, providers=["CPUExecutionProvider"]
        )

        def call() -> object:
            return session.run(None, {INPUT: image})
    else:
        graph, tensor = graph_of(arch, prepared=True), torch.from_numpy(image)
        if side == COMPILED:
            compiled(graph)

        @torch.inference_mode()
        def call() -> object:
            return graph(tensor)

    call()
    return call


def main() -> None:
    """Print one table for each network."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--size", type=size_of, default=(512, 1024), metavar="H,W")
    parser.add_argument("--archs", nargs="+", default=ARCHS, metavar="ARCH")
    parser.add_argument("--no_compile", action="store_true", help="leave torch.compile out")
    args = parser.parse_args()
    sides = [EAGER, *([] if args.no_compile else [COMPILED]), *FILES]
    for arch in args.archs:
        with tempfile.TemporaryDirectory() as place:
            write_files(arch, args.size, Path(place))
            rows = measure(make, sides, arch, args.size, Path(place), rounds=args.rounds)
        print_table(f"{arch}, {args.size[0]}x{args.size[1]}", rows)


if __name__ == "__main__":
    main()
