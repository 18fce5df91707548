# SPDX-License-Identifier: Apache-2.0
"""A folder of images into trees of files: does the network wait for files, or files for it?

    python -m benchmarks.folder                         # 500 JPEGs of 1280x720, a tiny network
    python -m benchmarks.folder --device_ms 30          # a device that needs no core, as a GPU
    python -m benchmarks.folder --trees ids,composite --workers 4

Sides: the network alone on images that lie ready; decoding by the loader's workers and encoding by
as many writers alone, without a network; and both together as `eval.py --eval folder` runs them. It
fails if that takes more than 1.15 times as long as the slower of the two. Where all have to share
one core nothing can overlap, and the sum of the two is the best there is: with `--device_ms` the
network waits for so many milliseconds per image instead of computing, which shows on any machine
whether the device is waited for.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.large import ARCH, CLASSES, TINY
from datasets.base import SegmentationDataset
from datasets.batch import Batch
from datasets.cityscapes import SPEC
from datasets.loader import make_loader
from datasets.samplers import EvalSampler
from datasets.spec import Item
from engine.compute import Compute
from engine.evaluate import EvalRules, evaluate
from engine.predict import Infer, whole
from metrics.result import Gather, ImageResult
from network.build import build_net
from network.inference import prepare_for_inference
from network.outputs import PRED
from reports.sinks import EveryImageSink
from reports.trees import TreePlan, TreeSink
from runtime.threads import usable_cpus

LIMIT = 1.15
SIZE = (720, 1280)
RULES = EvalRules(metrics=False)


def write_images(root: Path, count: int) -> list[Item]:
    """Smooth images with noise, JPEG quality 90; of the same eight pictures in turn."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(min(8, count)):
        coarse = rng.uniform(0, 255, (9, 16, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        noisy = np.asarray(smooth) + rng.normal(0, 6, smooth.shape)
        pixels = noisy.clip(0, 255).astype(np.uint8)
        pictures.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    items = []
    for number in range(count):
        path = root / f"{number:05d}.jpg"
        path.write_bytes(pictures[number % len(pictures)])
        items.append(Item(name=path.stem, image=path, label=None))
    return items


def tiny_network() -> Infer:
    """A network of 0.4 million parameters."""
    torch.manual_seed(0)
    return whole(prepare_for_inference(build_net(ARCH, CLASSES, **TINY)))


def waiting_network(milliseconds: float) -> Infer:
    """Waits as for a GPU, then gives blocks of classes."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, CLASSES, 9, 16)).astype(np.float32)
    scores = torch.nn.functional.interpolate(torch.from_numpy(coarse), SIZE, mode="bilinear")

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        del rows
        time.sleep(milliseconds / 1e3 * len(images))
        return {PRED: scores}

    return infer


class NoFiles(EveryImageSink):
    """Wants of every image what the trees want, and drops it."""

    needs = TreePlan().needs

    def add(self, result: ImageResult) -> None:
        """Nothing is written."""

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Nothing is left to do."""


class TimedSink(TreeSink):
    """Sums up for how long images are handed over to the writers."""

    seconds = 0.0

    def add(self, result: ImageResult) -> None:
        """As ever; the first image starts the processes."""
        start = time.perf_counter()
        super().add(result)
        if result.index:
            self.seconds += time.perf_counter() - start


class Folder:
    """The three sides on the images `items`; `out` gets a folder for each."""

    def __init__(self, items: list[Item], infer: Infer, plan: TreePlan, workers: int) -> None:
        self.items, self.infer, self.plan, self.workers = items, infer, plan, workers
        self.compute = Compute(device=torch.device("cpu"))
        self.waits = {"images": 0.0, "writers": 0.0}

    def loader(self) -> DataLoader[Batch]:
        """As `eval.py --eval folder` makes it."""
        dataset = SegmentationDataset(self.items, SPEC)
        sampler = EvalSampler(len(self.items), 0, 1)
        return make_loader(dataset, sampler, 1, self.workers, report_unreadable=True)

    def network_alone(self) -> None:
        """Every image is the first one, which lies ready."""
        first = next(iter(self.loader()))
        sinks = [NoFiles()]
        evaluate(self.infer, self._ready(first), SPEC, self.compute, sinks=sinks, rules=RULES)

    def _ready(self, first: Batch) -> Iterator[Batch]:
        for index, item in enumerate(self.items):
            yield replace(first, names=[item.name], indices=[index])

    def files_alone(self, out: Path) -> None:
        """Every image is decoded, and files of a prediction that is there already are written."""
        sink = self.sink(out)
        scores = self.infer(torch.zeros(1, 3, *SIZE), None)[PRED]
        pred = scores.argmax(1)[0].to(torch.uint8).numpy()
        for batch in self.loader():
            image = batch.shown(0) if "image" in sink.needs else None
            sink.add(
                ImageResult(
                    name=batch.names[0],
                    index=batch.indices[0],
                    image=image,
                    label=None,
                    pred=pred,
                    confidence=0.5,
                )
            )
        sink.close(0, 1, lambda value: [value])

    def together(self, out: Path) -> None:
        """What the program does; how long it waits for files is kept."""
        sink = TimedSink(out, SPEC, self.items, self.plan, workers=self.workers)
        evaluate(self.infer, self._timed(), SPEC, self.compute, sinks=[sink], rules=RULES)
        self.waits["writers"] = sink.seconds

    def _timed(self) -> Iterator[Batch]:
        """The batches of the loader; the first one comes once its processes have started."""
        batches = iter(self.loader())
        yield next(batches)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.waits["images"] += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def sink(self, out: Path) -> TreeSink:
        """The trees, written by as many processes as decode."""
        return TreeSink(out, SPEC, self.items, self.plan, workers=self.workers)


def main() -> int:
    """Print the seconds of all sides; exit code 1 above the limit where cores are not shared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2, help="that decode, and that encode")
    parser.add_argument("--trees", default="ids,color", help="of ids, color, composite")
    parser.add_argument("--device_ms", type=float, help="time of a device that needs no core")
    arguments = parser.parse_args()
    trees = arguments.trees.split(",")
    plan = TreePlan(
        ids="raw" if "ids" in trees else None,
        color="color" in trees,
        composite="composite" in trees,
    )
    waits = arguments.device_ms is not None
    infer = waiting_network(arguments.device_ms) if waits else tiny_network()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        items = write_images(root, arguments.images)
        sides = Folder(items, infer, plan, arguments.workers)
        calls: dict[str, Callable[[], None]] = {
            "network alone": sides.network_alone,
            "decode + encode alone": lambda: sides.files_alone(root / "files"),
            "together": lambda: sides.together(root / "together"),
        }
        seconds = {}
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = time.perf_counter() - start
    network, files, both = seconds.values()
    ratio, cores = both / max(network, files), usable_cpus()
    print(
        f"{arguments.images} images of {SIZE[1]}x{SIZE[0]}, {arguments.trees}, "
        f"{arguments.workers} loaders and {arguments.workers} writers on {cores} cores (limit "
        f"{LIMIT:g} of the slower side)"
    )
    for name, value in seconds.items():
        share = 1e3 * value / arguments.images
        print(f"  {name:24}{value:8.2f} s {share:8.1f} ms an image")
    print(f"  together / slower side  {ratio:8.3f}")
    print(f"  together / sum          {both / (network + files):8.3f}")
    for what, value in sides.waits.items():
        share = 1e3 * value / arguments.images
        print(f"  of it, waiting for {what:8} {value:5.2f} s {share:8.1f} ms an image")
    can_overlap = waits or cores > 1
    return int(can_overlap and ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
