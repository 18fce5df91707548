# SPDX-License-Identifier: Apache-2.0
"""`tools.check` of class folders: images per class, files that cannot be read, missing labels.

Classes are those of train/, or of the split itself if train/ is not checked, as in training and
evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from datasets.base import DataError, read_image
from datasets.imagenet import ImageList, list_classes, scan_split
from datasets.skip import SkipList
from runtime.errors import UserError
from runtime.parallel import in_threads

SPLITS = ("train", "val")
AT_ONCE = 4096  # images queued for the threads; a set may have a million


@dataclass
class ClassReport:
    """One split: images of every class (K,), and one line for each thing that is wrong."""

    name: str
    counts: npt.NDArray[np.int64]
    problems: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Totals."""
        text = f"{self.name}: {self.counts.sum()} images, {len(self.counts)} classes"
        return f"{text} of {self.counts.min()} to {self.counts.max()} images"


def _problem(path: Path) -> str:
    """Why an image cannot be read; empty if it can."""
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def _unreadable(images: ImageList, workers: int) -> Iterator[str]:
    """One line for every image that cannot be read, in order."""
    for first in range(0, len(images), AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, len(images)))
        paths = [images.path(number) for number in numbers]
        yield from filter(None, in_threads(_problem, paths, workers))


def check_split(
    root: Path, split: str, classes: tuple[str, ...], workers: int, skip: SkipList | None = None
) -> ClassReport:
    """Read all images of `split`, except for those of `skip`, in `workers` threads."""
    try:
        images, problems = scan_split(root, split, classes)
    except UserError as error:
        return ClassReport(split, np.zeros(len(classes), np.int64), [str(error)])
    if skip is not None:
        images = images.without(skip)
    counts = np.bincount(images.targets, minlength=len(classes)).astype(np.int64)
    return ClassReport(split, counts, [*problems, *_unreadable(images, workers)])


def check_class_folders(
    root: Path, splits: Sequence[str] | None, workers: int, skip: SkipList | None = None
) -> tuple[list[ClassReport], tuple[str, ...]]:
    """Reports of `splits`, by default of both, and the names of the classes.

    Raises UserError for a split that such a set does not have, and if the class folders that the
    others are compared with cannot be listed.
    """
    wanted = tuple(splits or SPLITS)
    unknown = [split for split in wanted if split not in SPLITS]
    if unknown:
        raise UserError(f"--split {unknown[0]}: class folders have {' and '.join(SPLITS)}")
    classes = list_classes(root, "train" if "train" in wanted else wanted[0])
    return [check_split(root, split, classes, workers, skip) for split in wanted], classes


def count_table(reports: Sequence[ClassReport], classes: Sequence[str]) -> str:
    """Images of every class, one class per row."""
    lines = [f"{'id':>4}  {'class':<22}" + "".join(f"{report.name:>9}" for report in reports)]
    for number, name in enumerate(classes):
        cells = "".join(f"{report.counts[number]:>9}" for report in reports)
        lines.append(f"{number:>4}  {name:<22}{cells}")
    return "\n".join(lines)
