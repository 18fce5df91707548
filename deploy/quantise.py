# SPDX-License-Identifier: Apache-2.0
"""An export in 8-bit integers, with what that costs in mIoU and brings in time.

    python -m deploy.quantise street_model --out street_int8 --calibrate photos/ \
        --dataset camvid --set DATASET.CAMVID_DIR=... --max_drop 1.0

The images of `--calibrate` tell the ranges of activations; a few dozen like those of the later use
are enough. Both models are then scored on the validation images of `--dataset`. An export that
loses more than `--max_drop` points of mIoU is not written.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from assembly.dataset import dataset_spec
from assembly.inspection import run_program
from assembly.sets import Sets
from datasets.base import read_image, read_item_image, read_item_label
from datasets.folder import list_items
from datasets.spec import DatasetSpec, Item
from datasets.video import is_video
from deploy import int8, predict
from deploy.folder import new_folder, refuse_existing
from deploy.loading import NETWORK_FLAGS, check_useful
from deploy.model_json import write_model_json
from deploy.onnx_file import MODEL_FILE, require_onnx
from deploy.pixels import at_size
from metrics.confusion import ConfusionMatrix, Scores
from runtime.errors import UserError
from runtime.progress import counter
from settings import Parser, Settings, read_settings
from settings.convert import file_name, number
from settings.declare import Bounds
from settings.ranges import POSITIVE_COUNT

PROG = "python -m deploy.quantise"
DATA_FLAGS = (*NETWORK_FLAGS, "cv", "city_mode")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a model reached: mIoU in %, milliseconds for an image of the data set, its size."""

    mean_iu: float
    milliseconds: float
    megabytes: float


def fitted(model: predict.ExportedModel, image: int8.Picture) -> int8.Picture:
    """`image` at the one size of the graph, where it has one."""
    size = model.spec["size"]
    return image if size is None else at_size(image, (size[0], size[1]))


def calibration(model: predict.ExportedModel, folder: Path, most: int) -> list[Path]:
    """At most `most` images of `folder`, spread over all of it; UserError without any."""
    items = list_items(folder, asked="--calibrate ")
    found = [item.image for item in items if not is_video(item.image)]
    if not found:
        raise UserError(f"--calibrate {folder}: holds no images, only videos")
    step = max(len(found) / most, 1.0)
    return [found[int(place * step)] for place in range(min(most, len(found)))]


def score(model: predict.ExportedModel, items: Sequence[Item], spec: DatasetSpec) -> Result:
    """mIoU and time of `model` on `items`, which have labels of `spec`."""
    matrix, seconds = ConfusionMatrix(spec.num_classes, ignore_label=spec.ignore_label), []
    progress = counter(f"{model.spec['precision']} on {spec.name}")
    for done, item in enumerate(items, 1):
        image, label = read_item_image(item), read_item_label(item, spec)
        own = fitted(model, image)
        start = time.perf_counter()
        ids = model.ids(own)
        seconds.append(time.perf_counter() - start)
        if ids.shape != label.shape:
            ids = cv2.resize(ids, label.shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        matrix.update(torch.from_numpy(ids), torch.from_numpy(label))
        progress(done, len(items))
    usual = float(np.median(seconds))  # the first call also sets things up
    size = (model.folder / model.spec["file"]).stat().st_size
    return Result(
        mean_iu=100 * Scores.of(matrix.matrix, spec.class_names).mean_iu,
        milliseconds=1e3 * usual,
        megabytes=size / 1e6,
    )


def table(results: dict[str, Result]) -> list[str]:
    """One line per model."""
    lines = [f"{'':8}{'mIoU %':>10}{'ms/image':>12}{'MB':>10}"]
    for name, each in results.items():
        lines.append(f"{name:8}{each.mean_iu:10.2f}{each.milliseconds:12.1f}{each.megabytes:10.1f}")
    return lines


def command_line() -> Parser:
    """The flags of this program alone."""
    parser = Parser(
        prog=PROG,
        description=__doc__,
        epilog="--dataset and its root are those of eval.py, as are --cv and --set.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("model", type=file_name, metavar="DIR", help="an export of deploy.export, ONNX in fp32")
    add("--out", type=file_name, required=True, metavar="DIR", help="folder to make")
    add("--calibrate", type=Path, required=True, metavar="FOLDER", help="images, without labels")
    add("--calibration_images", type=number(int, POSITIVE_COUNT), default=32, help="at most")
    points = number(float, Bounds(0, 100))
    add("--max_drop", type=points, default=1.0, help="points of mIoU that may be lost")
    add("--threads", type=int, default=0, help="of ONNX Runtime; 0: all cores")
    return parser


def labelled(settings: Settings, model: predict.ExportedModel) -> tuple[DatasetSpec, list[Item]]:
    """Classes and validation images of `--dataset`; UserError unless the export has its classes."""
    spec, classes = dataset_spec(settings), model.spec["classes"]
    if list(spec.class_names) != classes:
        raise UserError(
            f"--dataset {settings.data.dataset} has {spec.num_classes} classes "
            f"({', '.join(spec.class_names[:3])}, ...), and {model.folder} has {len(classes)} "
            f"({', '.join(classes[:3])}, ...): name the set that it was trained on"
        )
    return spec, Sets(settings).evaluated


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for: DIR, DIR2 and the rules of the conversion."""

    model: str
    out: str
    calibrate: Path
    calibration_images: int
    max_drop: float
    threads: int


def convert(own: Request, settings: Settings, folder: Path) -> list[str]:
    """Write the quantised export into `folder`; the table."""
    before = predict.ExportedModel(own.model, threads=own.threads)
    if before.spec["precision"] != "fp32":
        raise UserError(f"{own.model} is in {before.spec['precision']}: one in fp32 is wanted")
    spec, items = labelled(settings, before)
    images = calibration(before, own.calibrate, own.calibration_images)

    def pictures() -> Iterator[int8.Picture]:
        for path in images:
            image = fitted(before, read_image(path))
            before.check_size(*image.shape[:2])
            yield image

    source = before.folder / before.spec["file"]
    int8.quantise(source, folder / MODEL_FILE, before.spec["input"]["name"], pictures())
    content = {**before.spec, "file": MODEL_FILE, "precision": "int8"}
    write_model_json(folder, content)
    (folder / "predict.py").write_bytes(Path(predict.__file__).read_bytes())
    after = predict.ExportedModel(folder, threads=own.threads)
    results = {"fp32": score(before, items, spec), "int8": score(after, items, spec)}
    lines = table(results)
    lost = results["fp32"].mean_iu - results["int8"].mean_iu
    if not lost <= own.max_drop:
        raise UserError(
            f"int8 loses {lost:.2f} points of mIoU on {spec.name} ({results['fp32'].mean_iu:.2f} "
            f"to {results['int8'].mean_iu:.2f}), more than --max_drop {own.max_drop:g}, and was "
            "not written; more --calibrate images like those of the set may help"
        )
    write_model_json(folder, {**content, "quantised": facts(results, spec, items, images)})
    return lines


def facts(
    results: dict[str, Result], spec: DatasetSpec, items: Sequence[Item], images: Sequence[Path]
) -> dict[str, Any]:
    """What model.json says about the quantisation."""
    return {
        "dataset": spec.name,
        "images": len(items),
        "calibration_images": len(images),
        **{
            name: {"mean_iu": each.mean_iu, "ms": each.milliseconds}
            for name, each in results.items()
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder; exit code 2 for what does not fit, or loses too much."""

    def work() -> str:
        found, shared = command_line().parse_known_args(argv)
        own = Request(**vars(found))
        out = Path(own.out)
        refuse_existing(out)
        require_onnx()
        settings = read_settings([*shared, "--eval", "val"], prog=PROG)
        check_useful(settings, PROG, DATA_FLAGS)
        if "dataset" not in settings.given:
            raise UserError(f"{PROG} scores both models: --dataset NAME is wanted")
        with new_folder(out) as folder:
            lines = convert(own, settings, folder)
        return "\n".join([*lines, f"{out}: written"])

    return run_program(work)


if __name__ == "__main__":
    sys.exit(main())
