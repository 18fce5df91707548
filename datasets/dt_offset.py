# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth as files: written once, read by training with `--dt_offset_source files`.

    python -m datasets.dt_offset --dataset ade20k --split train,val --workers 8

One MATLAB 5 file a label, with `depth` and `dir_deg` (H, W) uint8 as `transforms/boundary.py`
computes them, and `deg_reduce`, the 2 by which angles are divided. Files stand where UN-EPT and
SegFix look for them: a folder `dt_offset` in place of `annotations` (ADE20K) or `label`
(PASCAL-Context), and `dt_offset/<path of the label>` for all other sets; below
DATASET.DT_OFFSET_DIR if that is set, else below the root of the data set. A file that is newer
than its label and of its size is kept, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError
from tqdm import tqdm

from config import Config, UserError, configure, wrong_input
from datasets import registry
from datasets.base import DataError, ExtraMaps, label_size, read_item_label, size_text
from datasets.spec import DatasetSpec, Item
from flags import Parser
from runtime.files import write_atomic
from transforms.boundary import ANGLE, DEGREES_PER_STEP, DEPTH, FIXED_ANGLE, boundary_maps

FOLDER = "dt_offset"
REPLACED_FOLDERS = ("annotations", "label")  # their place in a path is taken by `FOLDER`
BACKGROUND = "background"  # a class of this name is no region with boundaries of its own
SPLITS = ("train", "val", "test")
NOT_MATLAB = (  # what SciPy raises for files of another kind, or torn ones
    ValueError,
    TypeError,
    LookupError,
    NotImplementedError,
    OSError,
    EOFError,
    zlib.error,
    MatReadError,
)

Maps = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def void_classes(spec: DatasetSpec) -> tuple[int, ...]:
    """Train ids that make no region: the background of PASCAL-Context, as void of ADE20K."""
    return tuple(i for i, name in enumerate(spec.class_names) if name == BACKGROUND)


def offset_path(root: Path, out: Path, label: Path) -> Path:
    """Where the file of `label`, a path below the data set's `root`, stands below `out`."""
    try:
        parts = list(label.relative_to(root).with_suffix(".mat").parts)
    except ValueError:
        raise DataError(
            f"{label} is not below {root}, so there is no place for its boundary file; "
            "leave --dt_offset_source files out"
        ) from None
    found = next((i for i, part in enumerate(parts) if part in REPLACED_FOLDERS), None)
    if found is None:
        return out.joinpath(FOLDER, *parts)
    parts[found] = FOLDER
    return out.joinpath(*parts)


def read_maps(path: Path, size: tuple[int, int]) -> Maps:
    """`depth` and `direction` of a file; DataError unless it is whole and of `size` (H, W)."""
    way_out = "write it again with python -m datasets.dt_offset"
    try:
        content = loadmat(path)
        depth, direction = content["depth"], content["dir_deg"]
        reduce = int(content["deg_reduce"].item())
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {way_out}") from None
    except NOT_MATLAB as error:
        raise DataError(f"{path} is no boundary file ({type(error).__name__}); {way_out}") from None
    if reduce != DEGREES_PER_STEP:
        raise DataError(
            f"{path}: deg_reduce is {reduce}, but angles of {DEGREES_PER_STEP} degrees a step "
            f"are wanted (another version of the format); {way_out}"
        )
    for values in (depth, direction):
        if values.shape != size or values.dtype != np.uint8:
            raise DataError(
                f"{path} is {size_text(*values.shape[:2])} of {values.dtype}, but its label is "
                f"{size_text(*size)} and uint8 is wanted; {way_out}"
            )
    return depth, direction


def write_maps(path: Path, maps: Maps) -> None:
    """Write `depth` and `direction` so that `path` is never half there. OSError as it comes."""
    buffer = io.BytesIO()
    content = {"depth": maps[0], "dir_deg": maps[1], "deg_reduce": DEGREES_PER_STEP}
    savemat(buffer, content, do_compression=True)
    write_atomic(path, buffer.getvalue())


def computed_maps(spec: DatasetSpec, *, turn_angles: bool = True) -> ExtraMaps:
    """Maps made from the label while training; see `_named` for `turn_angles`."""
    void = void_classes(spec)

    def extra(item: Item, label: npt.NDArray[np.uint8]) -> dict[str, np.ndarray]:
        return _named(boundary_maps(label, spec.num_classes, void), turn_angles)

    return extra


def stored_maps(root: Path, out: Path, *, turn_angles: bool = True) -> ExtraMaps:
    """Maps read from files; see `_named` for `turn_angles`."""

    def extra(item: Item, label: npt.NDArray[np.uint8]) -> dict[str, np.ndarray]:
        assert item.label is not None
        size = label.shape[0], label.shape[1]
        return _named(read_maps(offset_path(root, out, item.label), size), turn_angles)

    return extra


def _named(maps: Maps, turn_angles: bool) -> dict[str, np.ndarray]:
    """Maps under their names; without `turn_angles` mirroring leaves the angles as they are."""
    return {DEPTH: maps[0], (ANGLE if turn_angles else FIXED_ANGLE): maps[1]}


def check_stored(items: Sequence[Item], root: Path, out: Path) -> None:
    """Raise DataError for the first item without a file, before a run starts."""
    paths = [offset_path(root, out, item.label) for item in items if item.label is not None]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} is missing ({len(missing)} of {len(paths)} are); write them with "
            "python -m datasets.dt_offset, or leave --dt_offset_source files out"
        )


def offset_root(root: Path, cfg: Config) -> Path:
    """The folder that boundary files stand below."""
    return Path(cfg.expand(cfg.DATASET.DT_OFFSET_DIR)) if cfg.DATASET.DT_OFFSET_DIR else root


Outcome = Literal["kept", "written", "one class"]


def _make_one(item: Item, spec: DatasetSpec, path: Path) -> Outcome:
    """Write the file of one item, unless a good one is there."""
    assert item.label is not None
    if path.is_file() and path.stat().st_mtime_ns >= item.label.stat().st_mtime_ns:
        try:
            read_maps(path, label_size(item.label))
            return "kept"
        except DataError:
            path.unlink()
    label = read_item_label(item, spec)
    write_maps(path, boundary_maps(label, spec.num_classes, void_classes(spec)))
    return "one class" if label.min() == label.max() else "written"


def _parser() -> Parser:
    description = (__doc__ or "").split("\n", 1)[0]
    parser = Parser(prog="datasets.dt_offset", allow_abbrev=False, description=description)
    parser.add_argument("--dataset", required=True, choices=sorted(registry.TABLE))
    parser.add_argument("--split", default="train", help="train,val: some of both")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="files at a time")
    parser.add_argument("--cv", type=int, default=0, help="cross-validation fold")
    parser.add_argument("--set_cityscapes_root", default="", metavar="DIR")
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="any configuration key")
    return parser


def run(argv: Sequence[str] | None = None) -> dict[str, int]:
    """Write what the command line names; how many files were kept, written, without boundary.

    Raises UserError for an unknown split, an image without label, a folder without permission.
    """
    args = _parser().parse_args(argv)
    given = ["set_cityscapes_root"] if args.set_cityscapes_root else []
    cfg = configure(args, given, Config())
    cv2.setNumThreads(0)
    items = []
    for split in args.split.split(","):
        if split not in SPLITS:
            raise UserError(f"--split {split}: some of {','.join(SPLITS)} wanted")
        items += registry.split_items(args, cfg, split)
    unlabelled = [item for item in items if item.label is None]
    if unlabelled:
        raise UserError(f"--split {args.split}: {unlabelled[0].image} has no label")
    return _make_all(args, cfg, items)


def _make_all(args: argparse.Namespace, cfg: Config, items: Sequence[Item]) -> dict[str, int]:
    spec, root = registry.dataset_spec(args, cfg), registry.data_root(args.dataset, cfg)
    out = offset_root(root, cfg)

    def make(item: Item) -> Outcome:
        assert item.label is not None
        path = offset_path(root, out, item.label)
        try:
            return _make_one(item, spec, path)
        except OSError as error:
            raise UserError(f"{path}: can not be written: {error.strerror}") from error

    counts = {"kept": 0, "written": 0, "one class": 0}
    with ThreadPoolExecutor(max(args.workers, 1)) as pool:
        results = pool.map(make, items)
        try:
            for outcome in tqdm(results, total=len(items), unit="file", file=sys.stdout):
                counts[outcome] += 1
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    written = counts["written"] + counts["one class"]
    print(f"{out}: {written} boundary files written, {counts['kept']} were there already")
    if counts["one class"]:
        print(f"{counts['one class']} labels hold one class only: there is no boundary in them")
    return counts


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 wrong input, 130 interrupted (goes on when started again)."""
    try:
        run(argv)
    except UserError as error:
        return wrong_input(error)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
