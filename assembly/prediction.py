# SPDX-License-Identifier: Apache-2.0
"""From settings to a network that answers for images in memory, in a process of somebody else.

What `eval.py --eval folder` does to an image happens here by the same parts. The global state of
the process stays as it is: random generators, precision, threads, directories.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from assembly.answer import Answer, Picture
from assembly.data import eval_transform
from assembly.dataset import dataset_spec
from assembly.evaluation import spec_from_checkpoint
from assembly.inference import build_infer, large_of, prepared
from assembly.network import build_network, check_arch, place
from assembly.snapshot import Snapshot, adopted, classes_of, read_snapshot
from assembly.weights import Weights
from datasets.batch import Batch
from datasets.loader import collate
from datasets.spec import DatasetSpec
from engine.class_tables import note_classes
from engine.compute import Compute
from engine.decide import Decided, Keep
from engine.predict_batch import Part, predict_batch
from engine.windows import Box
from network.fetch import fetch
from runtime.distributed import World
from runtime.errors import UserError
from runtime.precision import choose_precision
from runtime.runlog import RunLog
from settings import Settings
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
        if classes_of(snapshot).get("task") == "classify":
            raise UserError(f"{snapshot.path} is a classifier; a segmentation network is wanted")
        settings = adopted(settings, snapshot)
        self.spec = named_classes(settings, snapshot)
        with torch.random.fork_rng(devices=[]), precision.borrowed():
            net = self._network(settings, snapshot, log)
        self.settings, self._log, self._precision = settings, log, precision
        self._infer = build_infer(settings, net, return_all=False)
        self._transform = eval_transform(settings, self.spec)
        self._large = large_of(settings, log.msg)
        self._turn = threading.Lock()

    @property
    def notes(self) -> tuple[str, ...]:
        """The lines that eval.py would have logged until now."""
        return tuple(self._log.lines)

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
        batch, taken = self._batch(pictures, names), _Taken(scores)

        def take(parts: Iterable[Part], outputs: dict[str, Tensor]) -> None:
            taken.take(parts, batch.sizes[0])

        compute = Compute(device=self.device, autocast=self._precision.autocast)
        with self._turn, torch.inference_mode(), self._precision.borrowed():
            refused = predict_batch(self._infer, batch, compute, take, self._large)
            for _, reason in refused:
                raise UserError(reason)
            return taken.answers(batch, pictures)

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
    return Weights(found={"snapshot": found}).localised(settings)


def named_classes(settings: Settings, snapshot: Snapshot) -> DatasetSpec:
    """The classes that a checkpoint names, those of `--dataset` where the user named one.

    UserError for a file that names none.
    """
    facts = classes_of(snapshot)
    if "dataset" not in settings.given and "class_names" in facts:
        return spec_from_checkpoint(facts)
    if "dataset" not in settings.given and not settings.network.from_run:
        raise UserError(
            f"{snapshot.path} does not say what its classes are: add --dataset NAME (in Python "
            "dataset=), the set that it was trained on"
        )
    return dataset_spec(settings)


class _Taken:
    """What becomes of the scores of one batch, which arrive part by part.

    keep_scores: put those of all classes together on the host.
    """

    def __init__(self, keep_scores: bool) -> None:
        self.keep_scores = keep_scores
        self.decided: Decided
        self.scores: npt.NDArray[np.float32] | None = None  # (B, K, H, W)

    def take(self, parts: Iterable[Part], size: tuple[int, int]) -> None:
        """All parts of images of `size`."""
        self.decided = Decided(size, Keep(prob=True))
        for box, scores in parts:
            self.decided.take(scores, box)
            if self.keep_scores:
                self._keep(scores, box or Box(0, 0, *size), size)

    def _keep(self, scores: Tensor, box: Box, size: tuple[int, int]) -> None:
        if self.scores is None:
            self.scores = np.empty((*scores.shape[:2], *size), np.float32)
        place = slice(box.top, box.bottom), slice(box.left, box.right)
        self.scores[:, :, *place] = scores.cpu().numpy()

    def answers(self, batch: Batch, pictures: Sequence[Picture]) -> list[Answer]:
        """One answer per image of `batch`."""
        ids = self.decided.pred.cpu().numpy()
        prob = self.decided.prob
        assert prob is not None, "it is kept"
        confidence = prob.cpu().numpy()
        return [
            Answer(
                image=_shown(batch, number, picture, ids[number].shape),
                ids=ids[number].copy(),
                confidence=confidence[number].copy(),
                scores=None if self.scores is None else self.scores[number].copy(),
            )
            for number, picture in enumerate(pictures)
        ]


def _shown(batch: Batch, number: int, picture: Picture, size: tuple[int, ...]) -> Picture:
    """The image at the size of its prediction: options may have resized it for good."""
    return picture if picture.shape[:2] == size else batch.shown(number)
