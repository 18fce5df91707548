# SPDX-License-Identifier: Apache-2.0
"""What a data set is made of: classes, colours, raw ids, and one record per image.

The class tables are `labels/*.csv` with the columns id, train_id, name, r, g, b. A raw id is the
number stored in a label file, a train id (0..K-1, or the ignore label) is what networks see.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.places import located
from runtime.errors import UserError

LABELS_DIR = Path(__file__).resolve().parent / "labels"
IGNORE = 255
UNKNOWN = -1
NUM_RAW_IDS = 256  # of 8-bit labels; wider ones hold ids in RAW_IDS
RAW_IDS = range(-(1 << 31), 1 << 32)  # what label files of up to 32 bit hold
WRITTEN_IDS = range(1 << 16)  # what a grey PNG holds

Color = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class AutoLabel:
    """What belongs to a label made by a network, and how it becomes a target.

    prob: its confidence times 255, needed with a threshold. coarse: the annotators' label, needed
    with union classes. threshold: confidence 0..1 below which pixels are ignored. union_classes:
    train ids that also take their pixels of `coarse`. mask_out: ignore the border of the frame.
    """

    prob: Path | None = None
    coarse: Path | None = None
    threshold: float | None = None
    union_classes: tuple[int, ...] = ()
    mask_out: bool = False

    def __post_init__(self) -> None:
        for name in ("prob", "coarse"):
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else located(path))

    def rules(self) -> list[object]:
        """The rules without the files, for hashes."""
        return [self.threshold, list(self.union_classes), self.mask_out]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a split.

    name: relative, without suffix, unique in its split; sub-folders are kept, also in the names of
    output files. label: None if there is no ground truth. auto: set if a network made the label;
    `base.read_item_label` then applies its rules. turned: the image is turned as its header says,
    False for its pixels as stored. levels: the values of samples deeper than 8 bits that are black
    and white, if their type does not tell. Of files in an archive the paths lead through it.
    """

    name: str
    image: Path
    label: Path | None
    auto: AutoLabel | None = None
    turned: bool = True
    levels: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", located(self.image))
        object.__setattr__(self, "label", None if self.label is None else located(self.label))

    def label_files(self) -> list[Path]:
        """Every file that the target depends on."""
        extra = (self.auto.prob, self.auto.coarse) if self.auto is not None else ()
        return [path for path in (self.label, *extra) if path is not None]


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """Classes of a data set.

    palette: one (r, g, b) per class. id_to_train_id: raw id -> train id, void ids -> ignore_label;
    an id that is missing here is an error in a label file. train_id_to_id: the raw id of every
    class, as benchmark servers want it. Train ids have 8 bits, so there are at most 255 classes
    besides the ignore label. zero_label: the files hold 0 for void and 1..K for the classes, see
    `zero_label_ids`. color_to_id: the raw id of each colour, if label files hold colours; any other
    colour is `ignore_label`, or with `exact_colors` an error. Without it two classes may share a
    colour: colours are for viewing. boundary_void: classes that are not objects with boundaries of
    their own, which boundary supervision treats as void. custom: described by a YAML file; its name
    is free and refers to no built-in set.
    Raises ValueError when the parts do not fit together.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[Color, ...]
    id_to_train_id: Mapping[int, int]
    ignore_label: int
    train_id_to_id: tuple[int, ...]
    zero_label: bool = False
    color_to_id: Mapping[Color, int] | None = None
    exact_colors: bool = False
    boundary_void: tuple[int, ...] = ()
    custom: bool = False

    def __post_init__(self) -> None:
        count = len(self.class_names)
        if not len(self.palette) == len(self.train_id_to_id) == count > 0:
            raise ValueError(
                f"{self.name}: {count} class names, {len(self.palette)} colours and "
                f"{len(self.train_id_to_id)} raw ids; one of each per class wanted"
            )
        if not count <= self.ignore_label < NUM_RAW_IDS:
            raise ValueError(
                f"{self.name}: ignore label {self.ignore_label} is not in {count}..255, "
                f"above the {count} classes"
            )
        for raw, train_id in self.id_to_train_id.items():
            if raw not in RAW_IDS:
                raise ValueError(
                    f"{self.name}: raw id {raw} is outside {RAW_IDS[0]}..{RAW_IDS[-1]}"
                )
            if not (0 <= train_id < count or train_id == self.ignore_label):
                raise ValueError(
                    f"{self.name}: raw id {raw} maps to {train_id}, which is neither a class "
                    f"0..{count - 1} nor the ignore label {self.ignore_label}"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes that are predicted and scored."""
        return len(self.class_names)

    def lut(self) -> npt.NDArray[np.int16]:
        """Train id of the raw ids 0..255, (256,) int16; -1 for those the table does not know.

        Ids beyond are left out: labels are mapped by `ids.map_ids`.
        """
        table = np.full(NUM_RAW_IDS, UNKNOWN, np.int16)
        for raw, train_id in self.id_to_train_id.items():
            if 0 <= raw < NUM_RAW_IDS:
                table[raw] = train_id
        return table

    def inverse_lut(self) -> npt.NDArray[Any]:
        """Raw id of every train id, (256,) uint8 or, for ids above 255, uint16; 0 for no class.

        Raises UserError for ids that no grey PNG can hold.
        """
        for name, raw in zip(self.class_names, self.train_id_to_id, strict=True):
            if raw not in WRITTEN_IDS:
                raise UserError(
                    f"{self.name}: class {name} has the id {raw}, which a file of ids cannot "
                    f"hold ({WRITTEN_IDS[0]}..{WRITTEN_IDS[-1]}); give it another one under ids:"
                )
        is_wide = max(self.train_id_to_id) >= NUM_RAW_IDS
        table = np.zeros(NUM_RAW_IDS, np.uint16 if is_wide else np.uint8)
        table[: self.num_classes] = self.train_id_to_id
        return table

    def flat_palette(self) -> list[int]:
        """`flat_palette` of the classes."""
        return flat_palette(self.palette)


def flat_palette(colors: Sequence[Color]) -> list[int]:
    """768 numbers for a PNG of mode "P", or more of more colours; black where there is none."""
    flat = [value for color in colors for value in color]
    return flat + [0] * (3 * NUM_RAW_IDS - len(flat))


def zero_label_ids(num_classes: int) -> dict[int, int]:
    """The map of label files with 0 for void: 0 -> ignore, v -> v - 1, and 255 stays ignore."""
    classes = {number + 1: number for number in range(num_classes)}
    return {0: IGNORE, **classes, IGNORE: IGNORE}


FEW_LABELS = 10  # in so few files every pixel may well be labelled


def shifted_labels_text(used: npt.NDArray[np.bool_], spec: DatasetSpec, files: int) -> str:
    """Why the label files of a whole set seem to be shifted already, or an empty text.

    used: (256,) which raw values occur in any of them; only a spec with `zero_label` is judged.
    files: how many there are. After a shift, void 0 is 255 and no file holds the last class any
    more; void that was lost on the way leaves neither 0 nor 255, which can also be true of a few
    files that are right.
    """
    if not spec.zero_label or not used.any():
        return ""
    last = spec.num_classes
    if used[IGNORE] and not used[last]:
        seen = f"hold {IGNORE} but never {last}"
    elif not used[0] and not used[IGNORE] and files > FEW_LABELS:
        seen = f"never hold 0, nor {IGNORE}"
    else:
        return ""
    return (
        f"the label files of {spec.name} {seen}: they seem to be shifted already; wanted are the "
        f"published ones, 0 for unlabelled pixels and 1..{last} for the classes"
    )


def read_spec_csv(path: Path, name: str, ignore_label: int = IGNORE) -> DatasetSpec:
    """The spec of a class table.

    Several raw ids may share a train id; the first row of a train id names the class, its colour
    and its raw id. Rows with a negative raw id never occur in label files and are left out.
    Raises ValueError for a missing column, or when train ids leave a gap.
    """
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    missing = {"id", "train_id", "name", "r", "g", "b"} - set(rows[0] if rows else ())
    if missing:
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
    # differs: the official table keeps id -1 (licence plate), which no uint8 label can hold.
    known = [row for row in rows if int(row["id"]) >= 0]
    classes: dict[int, dict[str, str]] = {}
    for row in known:
        if int(row["train_id"]) != ignore_label:
            classes.setdefault(int(row["train_id"]), row)
    if sorted(classes) != list(range(len(classes))):
        raise ValueError(f"{path}: train ids {sorted(classes)} leave a gap")
    ordered = [classes[number] for number in range(len(classes))]
    return DatasetSpec(
        name=name,
        class_names=tuple(row["name"] for row in ordered),
        palette=tuple((int(row["r"]), int(row["g"]), int(row["b"])) for row in ordered),
        id_to_train_id={int(row["id"]): int(row["train_id"]) for row in known},
        ignore_label=ignore_label,
        train_id_to_id=tuple(int(row["id"]) for row in ordered),
    )
