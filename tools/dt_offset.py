# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth as files: written once, read by training with `--dt_offset_source files`.

    python -m tools.dt_offset --dataset ade20k --split train,val --workers 8

One MATLAB 5 file per label, with `depth` and `dir_deg` (H, W) uint8 as `transforms/boundary.py`
computes them, and `deg_reduce`, the 2 by which angles are divided. Files stand where UN-EPT and
SegFix look for them: a folder `dt_offset` in place of `annotations` (ADE20K) or `label`
(PASCAL-Context), and `dt_offset/<path of the label>` for all other sets; below
DATASET.DT_OFFSET_DIR if that is set, else below the root of the data set. A file that is newer
than its label and of its size is kept, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from tqdm import tqdm

from assembly.dataset import dataset_spec, label_root, offset_root, split_items
from datasets.boundary_files import Outcome, keep_or_write, offset_path
from datasets.spec import DatasetSpec, Item
from runtime.errors import UserError, wrong_input
from runtime.limits import counted
from runtime.parallel import in_threads
from tools.dataset_flags import dataset_parser, read_request


def run(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Write what the command line names; how many files were kept, written and without a boundary.

    Raises UserError for an image without a label, and a folder that cannot be written.
    """
    description = (__doc__ or "").split("\n", 1)[0]
    parser = dataset_parser("tools.dt_offset", description, splits=("train",))
    request = read_request(parser, argv)
    settings, splits = request.settings, request.splits or ()
    cv2.setNumThreads(0)
    items = [item for split in splits for item in split_items(settings, split)]
    unlabelled = [item for item in items if item.label is None]
    if unlabelled:
        raise UserError(f"--split {','.join(splits)}: {unlabelled[0].image} has no label")
    places = label_root(settings), offset_root(settings)
    return write_all(items, dataset_spec(settings), places, request.workers)


def write_all(
    items: Sequence[Item], spec: DatasetSpec, places: tuple[Path, Path], workers: int
) -> dict[str, int]:
    """The files of `items`; `places`: root of the labels, root of the files. Counts by outcome."""
    root, out = places

    def make(item: Item) -> Outcome:
        assert item.label is not None
        path = offset_path(root, out, item.label)
        try:
            return keep_or_write(item, spec, path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error

    counts = {"kept": 0, "written": 0, "one class": 0}
    results = in_threads(make, items, workers)
    for outcome in tqdm(results, total=len(items), unit="file", file=sys.stdout):
        counts[outcome] += 1
    written = counts["written"] + counts["one class"]
    print(f"{out}: {written} boundary files written, {counts['kept']} were there already")
    if counts["one class"]:
        where = counted(counts["one class"], "label")
        print(f"one class only, so without a boundary: {where}")
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 wrong input, 130 interrupted (continues when started again)."""
    try:
        run(argv)
    except UserError as error:
        return wrong_input(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
