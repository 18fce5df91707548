# SPDX-License-Identifier: Apache-2.0
"""Boundary ground truth as files: one MATLAB 5 file per label.

A file holds `depth` and `dir_deg` (H, W) uint8 as `transforms/boundary.py` computes them, and
`deg_reduce`, the 2 by which angles are divided. `tools/dt_offset.py` writes them and says where
they stand.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat, savemat, whosmat
from scipy.io.matlab import MatReadError

from datasets import verify
from datasets.base import DataError, ExtraMaps, label_size, read_item_label, size_text
from datasets.places import unpacked
from datasets.spec import DatasetSpec, Item
from datasets.stamps import stamp
from runtime.files import write_atomic
from runtime.parallel import in_threads
from transforms.boundary import ANGLE, DEGREES_PER_STEP, DEPTH, FIXED_ANGLE, boundary_maps

FOLDER = "dt_offset"
REPLACED_FOLDERS = ("annotations", "label")  # `FOLDER` takes their place in a path
NOT_MATLAB = (  # what SciPy raises for files of another kind and incomplete ones
    ValueError,
    TypeError,
    LookupError,
    NotImplementedError,
    OSError,
    EOFError,
    zlib.error,
    MatReadError,
)

MAP_NAMES = ("depth", "dir_deg")
WAY_OUT = "write it again with python -m tools.dt_offset"

Maps = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
Kinds = dict[str, tuple[tuple[int, ...], str]]  # shape and type of the maps of a file
Found = TypeVar("Found")


def offset_path(root: Path, out: Path, label: Path) -> Path:
    """Where the file of `label`, a path below the data set's `root`, lies below `out`."""
    try:
        parts = list(unpacked(label).relative_to(unpacked(root)).with_suffix(".mat").parts)
    except ValueError:
        raise DataError(
            f"{label} is not below {root}, so there is no place for its boundary file; "
            "training with --dt_offset_source compute needs none"
        ) from None
    found = next((i for i, part in enumerate(parts) if part in REPLACED_FOLDERS), None)
    if found is None:
        return out.joinpath(FOLDER, *parts)
    parts[found] = FOLDER
    return out.joinpath(*parts)


def read_maps(path: Path, size: tuple[int, int]) -> Maps:
    """`depth` and `direction` of a file; DataError unless it is whole and of `size` (H, W)."""

    def read() -> tuple[int, Maps]:
        content = loadmat(path)
        return int(content["deg_reduce"].item()), (content["depth"], content["dir_deg"])

    reduce, maps = _opened(path, read)
    kinds = [(values.shape, str(values.dtype)) for values in maps]
    _check_kinds(path, reduce, dict(zip(MAP_NAMES, kinds, strict=True)), size)
    return maps


def check_header(path: Path, size: tuple[int, int]) -> None:
    """DataError unless `path` is a boundary file of `size` (H, W); its maps are not read."""

    def read() -> tuple[int, Kinds]:
        found = {name: (shape, kind) for name, shape, kind in whosmat(path)}
        reduce = loadmat(path, variable_names=("deg_reduce",))["deg_reduce"]
        return int(reduce.item()), {name: found[name] for name in MAP_NAMES}

    _check_kinds(path, *_opened(path, read), size)


def _opened(path: Path, read: Callable[[], Found]) -> Found:
    """What `read()` finds in `path`; DataError if the file is missing or of another kind."""
    try:
        return read()
    except FileNotFoundError:
        raise DataError(f"{path} is missing; {WAY_OUT}") from None
    except NOT_MATLAB as error:
        raise DataError(
            f"{path} is not a boundary file ({type(error).__name__}); {WAY_OUT}"
        ) from None


def _check_kinds(path: Path, reduce: int, kinds: Kinds, size: tuple[int, int]) -> None:
    """Raise DataError for the first property of a file that is not as expected."""
    if reduce != DEGREES_PER_STEP:
        raise DataError(
            f"{path}: deg_reduce is {reduce}, but angles of {DEGREES_PER_STEP} degrees a step "
            f"are wanted (another version of the format); {WAY_OUT}"
        )
    for name, (shape, kind) in kinds.items():
        if shape != size:
            sizes = size_text(*shape[:2]), size_text(*size)
            raise DataError(f"{path}: {name} is {sizes[0]}, but its label is {sizes[1]}; {WAY_OUT}")
        if kind != "uint8":
            raise DataError(f"{path}: {name} is of type {kind}, but uint8 is wanted; {WAY_OUT}")


def write_maps(path: Path, maps: Maps) -> None:
    """Write `depth` and `direction` so that `path` is never incomplete. OSErrors pass through."""
    buffer = io.BytesIO()
    content = {"depth": maps[0], "dir_deg": maps[1], "deg_reduce": DEGREES_PER_STEP}
    savemat(buffer, content, do_compression=True)
    write_atomic(path, buffer.getvalue())


def computed_maps(spec: DatasetSpec, *, turn_angles: bool = True) -> ExtraMaps:
    """Maps made from the label while training; see `_named` for `turn_angles`."""

    def extra(item: Item, label: npt.NDArray[np.uint8]) -> dict[str, np.ndarray]:
        maps = boundary_maps(label, spec.num_classes, spec.boundary_void)
        return _named(maps, turn_angles)

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


def check_stored(
    items: Sequence[Item], root: Path, out: Path, cache_dir: Path, workers: int
) -> None:
    """Raise DataError for the first item whose file is missing or does not fit its label.

    Files that passed are not opened again while they and the labels stay as they are.
    """
    pairs = [(offset_path(root, out, item.label), item.label) for item in items if item.label]
    paths = [path for path, _ in pairs]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{missing[0]} is missing ({len(missing)} of {len(paths)} are); write them with "
            "python -m tools.dt_offset, or leave --dt_offset_source files out"
        )
    stamps = [(str(path), stamp(path), stamp(label)) for path, label in pairs]
    digest = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:16]

    def check() -> None:
        checks = in_threads(lambda p: check_header(p[0], label_size(p[1])), pairs, workers)
        deque(checks, maxlen=0)

    verify.once(cache_dir / f"{FOLDER}_verified_{digest}", check)


Outcome = Literal["kept", "written", "one class"]


def keep_or_write(item: Item, spec: DatasetSpec, path: Path) -> Outcome:
    """Write the file of one item, unless there is a good one."""
    assert item.label is not None
    if path.is_file() and path.stat().st_mtime_ns >= item.label.stat().st_mtime_ns:
        try:
            read_maps(path, label_size(item.label))
            return "kept"
        except DataError:
            path.unlink()
    label = read_item_label(item, spec)
    write_maps(path, boundary_maps(label, spec.num_classes, spec.boundary_void))
    return "one class" if label.min() == label.max() else "written"
