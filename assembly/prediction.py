# SPDX-License-Identifier: Apache-2.0
"""From settings to a network that answers for images in memory, in a process of somebody else.

What `eval.py --eval folder` does to an image happens here by the same parts. The global state of
the process stays as it is: random generators, precision, threads, directories.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assembly.answer import Answer, Picture
from assembly.data import eval_transform
from assembly.dataset import dataset_spec
from assembly.evaluation import spec_from_checkpoint
from assembly.inference import build_infer, prepared
from assembly.network import build_network, check_arch, place
from assembly.snapshot import Snapshot, adopted, classes_of, read_snapshot
from datasets.loader import Batch, collate
from datasets.spec import DatasetSpec
from engine.class_tables import note_classes
from engine.compute import Compute
from engine.evaluate import largest_probability
from engine.predict_batch import predict_batch
from network.fetch import fetch
from network.outputs import PRED
from runtime.distributed import World
from runtime.errors import UserError
from runtime.precision import choose_precision
from runtime.runlog import RunLog
from settings import Settings
from transforms.normalize import denormalize
from transforms.sample import Sample

AUTO = ("", "auto")


class Notes(RunLog):
    """Keeps the lines that a program would log; writes nothing anywhere."""

    def __init__(self) -> None:
        super().__init__(Path(), is_main=False)
        self.lines: list[str] = []

    def msg(self, text: str) -> None:
        """Keep the line."""
        self.lines.append(text)


class Segmenter:
    """A segmentation network with its weights, ready for images in memory.

    `settings` are those of `eval.py --eval folder`. `device`: a name of torch, "" for CUDA where
    there is a device, else the CPU. `spec` are the classes, `settings` what the checkpoint knew
    better, `notes` the lines that eval.py would log. Several threads may ask one segmenter; they
    take turns. Raises UserError, one line, for weights, options and devices that do not fit.
    """

    def __init__(self, settings: Settings, device: str = "") -> None:
        log = Notes()
        self.device = pick_device(device)
        precision, note = choose_precision(settings.run.precision, self.device)
        for line in filter(None, [*settings.notes, note]):
            log.msg(line)
        settings = _with_local_file(settings, log)
        snapshot = read_snapshot(settings.network.snapshot)
        if snapshot is None:
            raise UserError("predictions need weights: a checkpoint, a folder, a name to fetch")
        settings = adopted(settings, snapshot)
        self.spec = _classes(settings, snapshot)
        with torch.random.fork_rng(devices=[]), precision.borrowed():
            net = self._network(settings, snapshot, log)
        self.settings, self.notes = settings, tuple(log.lines)
        self._precision = precision
        self._infer = build_infer(settings, net, return_all=False)
        self._transform = eval_transform(settings, self.spec)
        self._turn = threading.Lock()

    def _network(self, settings: Settings, snapshot: Snapshot, log: Notes) -> nn.Module:
        """The network as evaluation runs it, on its device."""
        check_arch(settings)
        note_classes(snapshot, self.spec.class_names, log.msg)
        net = build_network(
            settings, self.spec.num_classes, log, snapshot, class_names=self.spec.class_names
        )
        world = World(rank=0, size=1, local_rank=0, device=self.device)
        return prepared(settings, place(settings, net, world, log))

    def answers(
        self, pictures: Sequence[Picture], names: Sequence[str], *, scores: bool = False
    ) -> list[Answer]:
        """What the network says about images of one size, which go through it together.

        names: what messages call them. scores: keep those of all classes. UserError for images that
        the network refuses, or that do not fit into memory, with what to do.
        """
        batch = self._batch(pictures, names)
        found: list[Answer] = []

        def take(outputs: dict[str, Tensor]) -> None:
            found.extend(_answers(outputs[PRED], batch, pictures, scores))

        compute = Compute(device=self.device, autocast=self._precision.autocast)
        with self._turn, torch.inference_mode(), self._precision.borrowed():
            refused = predict_batch(self._infer, batch, compute, take)
        for _, reason in refused:
            raise UserError(reason)
        return found

    def _batch(self, pictures: Sequence[Picture], names: Sequence[str]) -> Batch:
        """The images as the evaluation of a folder would load them."""
        samples = [
            self._transform(
                Sample(image=picture, label=None, name=name), np.random.default_rng(number)
            )
            for number, (picture, name) in enumerate(zip(pictures, names, strict=True))
        ]
        return collate(samples)


def pick_device(name: str) -> torch.device:
    """The device of that name; UserError for one that is not there. Nothing is made current."""
    if name in AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"device {name}: cpu, cuda or cuda:N wanted") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name}: cpu, cuda or cuda:N wanted")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device {name}: torch sees {count} CUDA devices; cpu is always there")
    return device


def _with_local_file(settings: Settings, log: Notes) -> Settings:
    """`settings` with a file of this machine in place of a name to fetch."""
    name = settings.network.snapshot
    if not name:
        return settings
    found = fetch(name, log.msg)
    if found.path == name:
        return settings
    log.msg(found.line())
    network = dataclasses.replace(settings.network, snapshot=found.path)
    return dataclasses.replace(settings, network=network)


def _classes(settings: Settings, snapshot: Snapshot) -> DatasetSpec:
    """The classes of a checkpoint, those of `dataset` where the user named one.

    UserError for a classifier, and for a file that names no classes.
    """
    facts = classes_of(snapshot)
    if facts.get("task") == "classify":
        raise UserError(f"{snapshot.path} is a classifier; a segmentation network is wanted")
    if "dataset" not in settings.given and "class_names" in facts:
        return spec_from_checkpoint(facts)
    if "dataset" not in settings.given and not settings.network.from_run:
        raise UserError(
            f"{snapshot.path} does not name its classes; --dataset (in Python: dataset=) says "
            "which set it was trained for: cityscapes, ade20k, camvid, ..."
        )
    return dataset_spec(settings)


def _answers(
    scores: Tensor, batch: Batch, pictures: Sequence[Picture], keep_scores: bool
) -> list[Answer]:
    """Scores (B, K, H, W) as one answer per image."""
    top, classes = scores.max(1)
    confidence = largest_probability(scores, top).cpu().numpy()
    ids = classes.to(torch.uint8).cpu().numpy()  # a DatasetSpec has at most 255 classes
    kept = scores.cpu().numpy() if keep_scores else None
    return [
        Answer(
            image=_shown(batch, number, pictures[number], ids[number].shape),
            ids=ids[number].copy(),
            confidence=confidence[number].copy(),
            scores=None if kept is None else kept[number].copy(),
        )
        for number in range(len(pictures))
    ]


def _shown(batch: Batch, number: int, picture: Picture, size: tuple[int, ...]) -> Picture:
    """The image at the size of its prediction: options may have resized it for good."""
    return picture if picture.shape[:2] == size else denormalize(batch.images[number])
