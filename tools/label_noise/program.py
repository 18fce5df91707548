# SPDX-License-Identifier: Apache-2.0
"""Regions whose labels are contradicted by networks that did not see the image, ranked.

    python -m reports.label_noise --result_dir DIR --dataset camvid --arch ... --max_epoch 50
    python -m reports.label_noise --result_dir DIR --predictions RUN RUN ...

The first form trains a network on each of --folds parts of the training images and predicts the
images that it did not see; its other flags are those of train.py. An interrupted command goes on
when it is started again. The second form reads evaluations that are there, of --dump_scores.
Writes label_noise.html, label_noise.json (COCO) and label_noise.txt (a skip list) to DIR.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from runtime.errors import UserError, wrong_input
from runtime.files import write_atomic
from runtime.limits import counted
from runtime.outcome import DONE, INTERRUPTED
from runtime.parallel import in_threads
from runtime.progress import counter
from settings import Parser
from settings.convert import number
from settings.declare import Bounds
from settings.ranges import POSITIVE_COUNT
from tools.label_noise.folds import FoldPlan, train_and_predict
from tools.label_noise.lists import coco, skip_list
from tools.label_noise.page import write_page
from tools.label_noise.predictions import Predicted, Predictions, read_predictions
from tools.label_noise.regions import Region, Usual, ranked, regions_of, usual

NAME = "label_noise"
FOLDS = Bounds(2, 100)
MOST = 10_000  # regions that are listed
SMALLEST = 4  # pixels of a region


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asks for. plan: None where predictions are there."""

    directory: Path
    predictions: list[Path]
    plan: FoldPlan | None
    shown: int
    workers: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """The worst of `count` regions, the worst first, and the sizes (H, W) of all images."""

    regions: list[Region]
    count: int
    sizes: list[tuple[int, int]]


def read_request(argv: Sequence[str] | None) -> Request:
    """The command line; UserError for flags that do not fit together."""
    parser = Parser(
        prog="python -m tools.label_noise",
        description=__doc__.split("\n")[0] + " Flags of train.py may follow.",
        allow_abbrev=False,
    )
    add, count = parser.add_argument, number(int, POSITIVE_COUNT)
    add("--result_dir", type=Path, required=True, metavar="DIR", help="folder to write to")
    add("--folds", type=number(int, FOLDS), help="how many networks are trained (3)")
    add(
        "--predictions", type=Path, nargs="+", metavar="RUN",
        help="evaluations with --dump_scores to read; nothing is trained",
    )  # fmt: skip
    add("--eval_flags", default="", help='further flags of eval.py, as in "--do_flip --bs_val 4"')
    add("--launcher", help='what starts train.py, as in "torchrun --nproc_per_node 8"')
    add("--shown", type=count, default=100, help="regions with pictures on the page")
    add("--workers", type=count, default=os.cpu_count() or 1, help="images at a time")
    args, others = parser.parse_known_args(argv)
    given = vars(args)
    directory = given["result_dir"].absolute()
    plan = None
    if given["predictions"]:
        trains = [f"--{name}" for name in ("folds", "eval_flags", "launcher") if given[name]]
        if others or trains:
            raise UserError(
                f"{(others or trains)[0]}: nothing is trained with --predictions; leave it out"
            )
    else:
        plan = FoldPlan(
            directory=directory,
            folds=given["folds"] or 3,
            train_flags=tuple(others),
            eval_flags=tuple(_words(given["eval_flags"], "--eval_flags")),
            launcher=tuple(_words(given["launcher"] or "", "--launcher")) or (sys.executable,),
        )
    return Request(
        directory=directory,
        predictions=given["predictions"] or [],
        plan=plan,
        shown=given["shown"],
        workers=given["workers"],
    )


def _words(text: str, flag: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UserError(f"{flag} {text}: {error}") from None


def find_regions(predictions: Predictions, workers: int) -> Found:
    """The regions of all images.

    Every image is read twice, because what is usual is a matter of all of them.
    """
    spec, images = predictions.spec, predictions.images
    report = counter("images read")

    def first(image: Predicted) -> tuple[Usual, tuple[int, int]]:
        answer = image.read(spec)
        height, width = answer.label.shape
        return usual(answer, spec.num_classes), (height, width)

    total, sizes = None, []
    for done, (own, size) in enumerate(in_threads(first, images, workers), 1):
        total = own if total is None else total + own
        sizes.append(size)
        report(done, 2 * len(images))
    assert total is not None, "there is an image"
    limits, surprise = total.limits, total.surprise

    def second(place: int) -> list[Region]:
        return regions_of(images[place].read(spec), limits, surprise, place, SMALLEST)

    regions: list[Region] = []
    count = 0
    for done, own_regions in enumerate(in_threads(second, range(len(images)), workers), 1):
        regions += own_regions
        count += len(own_regions)
        if len(regions) > 2 * MOST:
            regions = ranked(regions)[:MOST]
        report(len(images) + done, 2 * len(images))
    return Found(regions=ranked(regions)[:MOST], count=count, sizes=sizes)


def write_all(directory: Path, predictions: Predictions, found: Found, shown: int) -> None:
    """Page, annotations and skip list, and lines that say so."""
    regions, images, spec = found.regions, predictions.images, predictions.spec
    write_atomic(directory / f"{NAME}.json", coco(regions, images, found.sizes, spec))
    write_atomic(directory / f"{NAME}.txt", skip_list(regions[:shown], images, spec))
    write_page(directory / f"{NAME}.html", regions, predictions, shown)
    for note in predictions.notes:
        print(f"note: {note}")
    if found.count > len(regions):
        print(f"note: {counted(found.count, 'region')} found, the first {len(regions)} are listed")
    print(f"{counted(len(regions), 'region')} in {counted(len(images), 'image')}")
    for kind, end in (("page", "html"), ("annotations", "json"), ("skip list", "txt")):
        print(f"{kind}: {directory / NAME}.{end}")


def main(argv: Sequence[str] | None = None) -> int:
    """Train, predict, rank; 0 done, 2 wrong input, else the code of the program that failed."""
    try:
        request = read_request(argv)
        cv2.setNumThreads(0)
        directories = request.predictions
        if request.plan is not None:
            code = train_and_predict(request.plan)
            if code != DONE:
                return code
            directories = request.plan.predictions
        predictions = read_predictions(directories)
        write_all(
            request.directory, predictions, find_regions(predictions, request.workers),
            request.shown,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        return INTERRUPTED
    except OSError as error:
        return wrong_input(f"{error.filename}: {error.strerror}")
    except UserError as error:
        return wrong_input(error)
    return DONE
