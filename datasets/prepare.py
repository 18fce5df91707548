# SPDX-License-Identifier: Apache-2.0
"""What a training does with its data before step 1: check it, and find the class centroids.

One process per machine reads, the others wait and then read its findings from the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.centroids import Centroids, Known, Remarks, load_or_build
from datasets.loader import check_sizes
from datasets.samplers import EvalSampler
from datasets.spec import DatasetSpec, Item
from datasets.stamps import Stamps
from datasets.verify import Facts, refuse_mixed, refuse_shifted, verify_items
from runtime.errors import UserError
from runtime.progress import Log, counter
from transforms.sample import Sample, Transform

SET_TITLES = ("fine images", "video frames", "coarse images")


@dataclass(kw_only=True)
class Checker:
    """Checks splits and finds centroids; `log` gets lines on the first rank only.

    cache: folder of what was found before. tile: side of the tiles of centroids in pixels, None if
    nothing is drawn by class.
    """

    spec: DatasetSpec
    cache: Path
    workers: int
    stamps: Stamps
    rank: int
    log: Log
    tile: int | None = None

    def check(self, items: Sequence[Item], title: str) -> Facts:
        """What the labels of a split hold; with a tile, their points if just read.

        Raises DataError for files that do not fit.
        """
        progress = None if self.rank else counter(f"checking {title}")
        return verify_items(
            items,
            self.spec,
            self.cache,
            self.workers,
            stamps=self.stamps,
            tile=self.tile,
            progress=progress,
        )

    def centroids(self, items: Sequence[Item], facts: Facts, title: str) -> Centroids:
        """Where the classes of a split lie; empty without a tile."""
        if self.tile is None or not items:
            return {}
        return load_or_build(
            items,
            self.spec,
            self.tile,
            self.cache,
            self.workers,
            known=Known(stamps=self.stamps, points=facts.points),
            remarks=Remarks(log=self.say, title=title, absent=title != SET_TITLES[0]),
            progress=None if self.rank else counter("centroids"),
        )

    def say(self, text: str) -> None:
        """Log a line on the first rank."""
        if self.rank == 0:
            self.log(text)


def checked_centroids(
    checker: Checker, sets: Sequence[Sequence[Item]], val: Sequence[Item]
) -> tuple[list[Centroids], Facts, Facts]:
    """Centroids of fine images, video frames and coarse images; facts of these and of val.

    Raises DataError for files that do not fit, and for a split without any labelled pixel.
    """
    found: list[Centroids] = []
    with alone(checker.cache, checker.say):
        train = checker.check(sets[0], "train")
        checker.tile, tile = None, checker.tile  # no point of val is drawn
        held = checker.check(val, "val")
        checker.tile = tile
        refuse_shifted(checker.spec, (train, held), sets[0][0].label)
        refuse_mixed((train, held))
        for name, facts, items in (("train", train, sets[0]), ("val", held, val)):
            for line in odd_lines(name, facts, items, checker.spec):
                checker.say(line)
        for number, (items, title) in enumerate(zip(sets, SET_TITLES, strict=True)):
            facts = train if number == 0 else Facts()
            if number and items:
                facts = checker.check(items, title)
                refuse_shifted(checker.spec, (facts,), items[0].label)
                train.sizes += facts.sizes
            found.append(checker.centroids(items, facts, title))
    return found, train, held


def odd_lines(name: str, facts: Facts, items: Sequence[Item], spec: DatasetSpec) -> list[str]:
    """Warn about labels of the split `name` that are readable but teach little.

    Raises UserError for labels in which no pixel counts.
    """
    classes = facts.counts[: spec.num_classes]
    if facts.labels and not classes.any():
        raise UserError(
            f"{name}: no pixel of the {facts.labels} labels counts, all are ignored "
            f"({spec.ignore_label}); {items[0].label} is one of them: look at the ids of the files "
            "and at their map"
        )
    lines = []
    present = [spec.class_names[number] for number in np.flatnonzero(classes)]
    absent = facts.absent(spec)
    if len(present) == 1:
        lines.append(
            f"warning: {name}: every labelled pixel is {present[0]}, there is none of "
            f"{', '.join(absent)}: a network that always answers {present[0]} scores 100 %"
        )
    elif absent:
        lines.append(f"warning: {name}: no pixel of {', '.join(absent)} in the labels")
    if facts.labels and facts.binary:
        lines.append(f"warning: {binary_text(name)}")
    return lines


def binary_text(name: str) -> str:
    """The line about a split of masks for viewing."""
    return (
        f"{name}: every label holds only 0 and 255, as masks for viewing do; "
        "map 255 to a class unless it means ignore"
    )


def check_batches(
    items: Sequence[Item],
    sizes: Sequence[tuple[int, int] | None],
    transform: Transform | None,
    batch_size: int,
    world: int,
) -> None:
    """Raise DataError for the first batch of an evaluation whose images differ in size.

    sizes: (H, W) of the files, None for those that cannot be read. transform: of the evaluation,
    which may bring all to one size.
    """
    if len(set(sizes)) < 2:
        return
    made: dict[tuple[int, int], Sample] = {}

    def sample(number: int, size: tuple[int, int]) -> Sample:
        if size not in made:
            pixels, label = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
            blank = Sample(image=pixels, label=label, name="")
            rng = np.random.default_rng(0)
            made[size] = blank if transform is None else transform(blank, rng)
        return dataclasses.replace(made[size], name=items[number].name)

    for rank in range(world):
        order = list(EvalSampler(len(items), rank, world))
        for first in range(0, len(order), batch_size):
            batch = [(number, sizes[number]) for number in order[first : first + batch_size]]
            check_sizes([sample(number, size) for number, size in batch if size is not None])


@contextlib.contextmanager
def alone(folder: Path, log: Log) -> Iterator[None]:
    """Only one process of this machine at a time; without a lock if the system offers none."""
    stream = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("w")
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError as error:
        # A folder that cannot be written, or a file system without locks (NFS without its daemon,
        # some FUSE mounts): then several processes may read the same labels, which costs time.
        log(f"{folder}: cannot be locked ({error.strerror}); going on without a lock")
    try:
        yield
    finally:
        if stream is not None:
            stream.close()
