# SPDX-License-Identifier: Apache-2.0
"""Read every image and label of a data set before a long run does.

    python -m tools.check --dataset camvid --set DATASET.CAMVID_DIR=/data/camvid
    python -m tools.check --dataset custom --set DATASET.CUSTOM_YAML=mine.yml --split train,val
    python -m tools.check --dataset imagenet --set DATASET.IMAGENET_DIR=/data/imagenet

Problems, exit code 2: files that cannot be read or are missing, labels of another size, with
colours or with unknown ids, images that are in two splits. Notes, exit code 0: files that are
ignored, classes missing from a split, labels of only 0 and 255 or of few bits, images that are
turned, nearly black or twice in one split. Then class frequencies, mean and deviation. For class
folders: images per class, files that cannot be read, empty, missing or additional folders.
"""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from assembly import sets
from assembly.copies import keep_copies
from assembly.dataset import data_root, dataset_spec, imagenet_root, open_skip_list
from datasets import registry, table
from datasets.base import (
    DataError,
    ids_in_use,
    is_binary,
    map_ids,
    mismatch_text,
    read_ids,
    read_item_image,
    unknown_ids_text,
)
from datasets.check_classes import ClassReport, check_class_folders, count_table
from datasets.check_formats import ImageForm, format_notes, image_form, mixed_labels
from datasets.ids import low_bits
from datasets.listing import Items, MissingFiles, notes_of
from datasets.prepare import binary_text
from datasets.skip import SkipList
from datasets.spec import NUM_RAW_IDS, DatasetSpec, Item, shifted_labels_text
from runtime.errors import UserError, wrong_input
from runtime.files import write_atomic
from runtime.limits import counted
from runtime.parallel import in_threads
from settings import Settings
from tools.dataset_flags import DatasetRequest, dataset_parser, read_request

MAX_LISTED = 20
CLASSIFIED = table.names(lambda row: row.kind == table.CLASS_FOLDERS)


@dataclass
class Finding:
    """What one item holds: problems, pixels per train id, colour sums, a hash, raw ids in use.

    form, label_bits: how image and label are stored, None if they cannot be read.
    """

    item: Item
    problems: list[str] = field(default_factory=list)
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(NUM_RAW_IDS, np.int64))
    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 3)))
    size: tuple[int, int] = (0, 0)
    digest: str = ""
    is_binary: bool = False
    used: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(NUM_RAW_IDS, bool))
    form: ImageForm | None = None
    label_bits: int | None = None


def inspect(item: Item, spec: DatasetSpec) -> Finding:
    """Read one item entirely; nothing wrong with its files raises."""
    finding = Finding(item)
    shape = None
    try:
        image = read_item_image(item)
        finding.form = image_form(item, image)
        shape = image.shape[:2]
        finding.size = shape[0], shape[1]
        finding.digest = hashlib.blake2b(image.tobytes() + str(shape).encode()).hexdigest()
        mean, deviation = cv2.meanStdDev(image)
        pixels = shape[0] * shape[1]
        finding.sums = np.stack([mean[:, 0], deviation[:, 0] ** 2 + mean[:, 0] ** 2]) * pixels
    except DataError as error:
        finding.problems.append(str(error))
    if item.label is None:
        return finding
    try:
        ids = read_ids(item.label, spec)
        finding.label_bits = low_bits(item.label, spec)
    except DataError as error:
        finding.problems.append(str(error))
        return finding
    if shape is not None and ids.shape != shape:
        finding.problems.append(mismatch_text(item, shape, ids.shape))
    finding.is_binary = is_binary(ids)
    finding.used = ids_in_use(ids)
    mapped = map_ids(ids, spec)
    if mapped is None:
        finding.problems.append(unknown_ids_text(item.label, ids, spec))
    else:
        finding.counts = np.bincount(mapped.ravel(), minlength=NUM_RAW_IDS).astype(np.int64)
    return finding


@dataclass
class SplitReport:
    """All findings of one split.

    errors: why all or part of it could not be listed, or why it is wrong as a whole. remarks: what
    was ignored when it was listed. missing: images of pairs with a missing file.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    missing: list[Path] = field(default_factory=list)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Pixels of every train id, (256,)."""
        total = np.zeros(NUM_RAW_IDS, np.int64)
        for finding in self.findings:
            total += finding.counts
        return total

    def images_with(self, train_id: int) -> int:
        """Number of labels in which a class occurs."""
        return sum(bool(finding.counts[train_id]) for finding in self.findings)

    def problems(self) -> list[str]:
        """One line each, in the order of the items."""
        found = [line for finding in self.findings for line in finding.problems]
        return [*self.errors, *found]


def check_split(
    name: str,
    settings: Settings,
    spec: DatasetSpec,
    workers: int,
    skip: SkipList | None = None,
) -> SplitReport:
    """Read a whole split, except for the pairs of `skip`, in `workers` threads."""
    listing = {"train": sets.train_items, "val": sets.val_items, "test": sets.test_items}
    faults: dict[Path, str] = {}
    try:
        items = listing[name](settings, skip)
    except MissingFiles as error:
        faults = error.faults
        items = Items((i for i in error.items if i.image not in faults), error.items.notes)
    except UserError as error:
        if name == "test" and "no such folder" in str(error):
            return SplitReport(name, remarks=[f"{error}; only --eval test needs it"])
        return SplitReport(name, errors=[str(error)])
    findings = list(in_threads(lambda item: inspect(item, spec), items, workers))
    report = SplitReport(name, findings, list(faults.values()), notes_of(items), list(faults))
    used = np.zeros(NUM_RAW_IDS, bool)
    for finding in findings:
        used |= finding.used
    if shifted := shifted_labels_text(used, spec, len(findings)):
        report.errors.append(f"{name}: {shifted}")
    is_known = any(finding.counts.any() for finding in findings)
    if name != "test" and is_known and not report.counts[: spec.num_classes].any():
        report.errors.append(f"{name}: no pixel of any label counts, all are ignored")
    return report


def duplicates(reports: Iterable[SplitReport]) -> tuple[list[str], list[str]]:
    """Images with equal pixels: lines for those in different splits, and inside one split."""
    places: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for report in reports:
        for finding in report.findings:
            if finding.digest:
                places[finding.digest].append((report.name, finding.item.image))
    across: list[str] = []
    inside: list[str] = []
    for found in places.values():
        if len(found) < 2:
            continue
        text = "the same image: " + " = ".join(f"{path} ({split})" for split, path in found)
        (across if len({split for split, _ in found}) > 1 else inside).append(text)
    return across, inside


def notes(report: SplitReport, spec: DatasetSpec) -> list[str]:
    """What is odd about a split without being wrong."""
    lines = [f"{report.name}: {remark}" for remark in report.remarks]
    labelled = [finding for finding in report.findings if finding.counts.any()]
    if not labelled:
        return lines + format_notes(report.name, report.findings)
    counts = report.counts
    classes = enumerate(spec.class_names)
    present = [name for number, name in classes if counts[number]]
    if len(present) == 1:
        lines.append(f"{report.name}: every labelled pixel is {present[0]}")
    absent = [name for name in spec.class_names if name not in present]
    if absent:
        lines.append(f"{report.name}: no pixel of {', '.join(absent)}")
    if all(finding.is_binary for finding in labelled):
        lines.append(binary_text(report.name))
    return lines + format_notes(report.name, report.findings)


def class_table(reports: Sequence[SplitReport], spec: DatasetSpec) -> str:
    """Share of the labelled pixels in percent and number of images, one class per row."""
    heads = "".join(f"{report.name + ' %':>12}{'images':>8}" for report in reports)
    lines = [f"{'id':>3}  {'class':<22}{heads}"]
    rows = [*enumerate(spec.class_names), (spec.ignore_label, "(ignored)")]
    totals = [max(int(report.counts.sum()), 1) for report in reports]
    for number, name in rows:
        cells = "".join(
            f"{100 * report.counts[number] / total:>12.3f}{report.images_with(number):>8}"
            for report, total in zip(reports, totals, strict=True)
        )
        lines.append(f"{number:>3}  {name:<22}{cells}")
    return "\n".join(lines)


def colour_line(report: SplitReport) -> str:
    """Count, sizes, mean and standard deviation (of values 0..1) of a split's images."""
    readable = [finding for finding in report.findings if finding.digest]
    if not readable:
        return f"{report.name}: no readable image"
    pixels = sum(finding.size[0] * finding.size[1] for finding in readable)
    mean, square = np.sum([finding.sums for finding in readable], axis=0) / pixels
    deviation = np.sqrt(np.maximum(square - mean**2, 0)) / 255
    sizes = sorted({finding.size for finding in readable})
    shown = ", ".join(f"{width}x{height}" for height, width in sizes[:4])
    more = f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""
    values = [" ".join(f"{value:.3f}" for value in row) for row in (mean / 255, deviation)]
    return (
        f"{report.name}: {counted(len(readable), 'image')}, {shown}{more}; mean {values[0]}, "
        f"std {values[1]}"
    )


def print_class_report(reports: Sequence[ClassReport], classes: Sequence[str]) -> int:
    """`print_report` of class folders."""
    print("\n".join(report.line() for report in reports))
    print(f"\n{count_table(reports, classes)}")
    return _print_lines([], [line for report in reports for line in report.problems])


def print_report(
    reports: Sequence[SplitReport], spec: DatasetSpec, more: Sequence[str] = ()
) -> int:
    """Print everything, with `more` notes; returns the number of problems."""
    for report in reports:
        print(colour_line(report))
    print()
    print(class_table(reports, spec))
    across, inside = duplicates(reports)
    remarks = [line for report in reports for line in notes(report, spec)] + inside + list(more)
    problems = [line for report in reports for line in report.problems()] + across
    problems += mixed_labels([finding for report in reports for finding in report.findings])
    return _print_lines(remarks, list(dict.fromkeys(problems)))  # a root fails every split alike


def _print_lines(remarks: Sequence[str], problems: Sequence[str]) -> int:
    """Print the first lines of both kinds, and how many there are; the number of problems."""
    for title, lines in (("notes", remarks), ("problems", problems)):
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"  {line}" for line in lines[:MAX_LISTED]))
        if len(lines) > MAX_LISTED:
            print(f"  and {len(lines) - MAX_LISTED} more")
    print(f"\n{counted(len(problems), 'problem')}, {counted(len(remarks), 'note')}")
    return len(problems)


def run(argv: Sequence[str] | None = None) -> int:
    """Check what the command line names; the number of problems. Raises UserError."""
    description = (__doc__ or "").split("\n", 1)[0]
    parser = dataset_parser("tools.check", description, splits=None, more=CLASSIFIED)
    parser.add_argument(
        "--write_skip_list",
        metavar="FILE",
        help="write the images with problems there, for DATASET.SKIP_LIST",
    )
    request = read_request(parser, argv)
    settings, skip_list = request.settings, request.more["write_skip_list"]
    cv2.setNumThreads(0)
    keep_copies(settings, print)
    if settings.data.dataset in CLASSIFIED:
        return _check_folders(request)
    spec = dataset_spec(settings)
    root = data_root(settings)
    splits = request.splits or registry.splits_of(settings.data.dataset, root)
    skip = open_skip_list(settings)
    reports = [check_split(name, settings, spec, request.workers, skip) for name in splits]
    if skip_list:
        write_skip_list(Path(str(skip_list)), reports)
    more = [skip.unknown_text()] if skip is not None and skip.unknown_text() else []
    return print_report(reports, spec, more)


def _check_folders(request: DatasetRequest) -> int:
    """`run` for class folders."""
    settings = request.settings
    if request.more["write_skip_list"]:
        raise UserError("--write_skip_list lists pairs of images and labels; leave it out")
    joint = settings.data.city_mode != "train"
    if settings.data.cv or joint or "set_cityscapes_root" in settings.given:
        raise UserError(
            "--cv, --city_mode and --set_cityscapes_root have no effect on class folders; "
            "leave them out"
        )
    root, skip = imagenet_root(settings), open_skip_list(settings)
    return print_class_report(*check_class_folders(root, request.splits, request.workers, skip))


def write_skip_list(path: Path, reports: Sequence[SplitReport]) -> None:
    """The images of all items with a problem, one per line, for DATASET.SKIP_LIST.

    Raises UserError if the file cannot be written.
    """
    bad = [str(f.item.image) for report in reports for f in report.findings if f.problems]
    bad += [str(path) for report in reports for path in report.missing]
    try:
        write_atomic(path, "".join(f"{line}\n" for line in bad).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise UserError(f"--write_skip_list {path}: cannot be written: {error.strerror}") from error
    print(f"{path}: {counted(len(bad), 'image')} with problems\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 fine, 2 problems or wrong input."""
    try:
        return 2 if run(argv) else 0
    except UserError as error:
        return wrong_input(error)


if __name__ == "__main__":
    sys.exit(main())
