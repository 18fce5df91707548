# SPDX-License-Identifier: Apache-2.0
"""The table of data sets: one row says everything about a set but its classes and its listing.

These stand in the module of the row, which `datasets.registry` imports when the set is used. The
choices of `--dataset`, the keys of the roots and all rules that hold for some sets alone come from
here. This module imports the standard library alone, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["pairs", "images", "class folders", "black"]
PAIRS: Kind = "pairs"  # images and label maps
IMAGES: Kind = "images"  # images alone, wherever they are: named by another flag, no root
CLASS_FOLDERS: Kind = "class folders"  # one folder per class, for --task classify
BLACK: Kind = "black"  # made in memory: no root, no labels, nothing is read

CITYSCAPES_FILES = r"[A-Za-z-]+_\d{6}_\d{6}.*\.png", "city_000000_000000.png"
PASCAL_FILES = r"\d{4}_\d{6}\.png", "2008_000002.png"


@dataclass(frozen=True)
class Root:
    """Where a set lies: a key of the section DATASET, what that holds, its flag if it has one."""

    key: str
    help: str
    flag: str = ""


@dataclass(frozen=True)
class Row:
    """One data set, the value `name` of `--dataset`.

    root: None for a set without files of its own. kind: what its files are. module: where its
    classes and `list_items` are; empty: `datasets.NAME`. spec: what the classes are called there, a
    `DatasetSpec` or a function of the root. splits: those with files. folds: of the settings of
    cross-validation, those that its listing takes. joint: split -> the one that takes its place
    with `--city_mode trainval`; empty: refused. described: the root is a file, and the module's
    `root_of` and `splits_of` read the folder and the splits from it. coarse: has coarse images and
    video frames, in the layout of Cityscapes. cityscapes_classes: its train ids are the 19 of
    Cityscapes. enlarges: takes `--scf`. server_files: pattern of the file names that its server
    accepts, and an example; None: any.
    """

    name: str
    root: Root | None = None
    kind: Kind = PAIRS
    module: str = ""
    spec: str = "SPEC"
    splits: tuple[str, ...] = ("train", "val", "test")
    folds: tuple[Literal["cv", "cv_splits"], ...] = ()
    joint: Mapping[str, str] = field(default_factory=dict)
    described: bool = False
    coarse: bool = False
    cityscapes_classes: bool = False
    enlarges: bool = False
    server_files: tuple[str, str] | None = None

    @property
    def path(self) -> str:
        """The dotted name of its module."""
        return self.module or f"datasets.{self.name}"


CITYSCAPES_DIR = Root(
    "CITYSCAPES_DIR",
    "root of Cityscapes, holds leftImg8bit_trainvaltest/, gtFine_trainvaltest/, ...",
    flag="--set_cityscapes_root",
)
PASCAL_DIR = Root("PASCAL_CONTEXT_DIR", "PASCAL_Context: train/ and val/ with image/ and label/")

ROWS = (
    Row(
        "cityscapes",
        CITYSCAPES_DIR,
        folds=("cv", "cv_splits"),
        joint={"train": "trainval"},
        coarse=True,
        cityscapes_classes=True,
        server_files=CITYSCAPES_FILES,
    ),
    Row(
        "synthetic",
        Root("SYNTHETIC_DIR", "written by `python -m datasets.synthetic`, Cityscapes layout"),
        folds=("cv", "cv_splits"),
        joint={"train": "trainval"},
        coarse=True,
        cityscapes_classes=True,
        server_files=CITYSCAPES_FILES,
    ),
    Row(
        "camvid",
        Root("CAMVID_DIR", "holds train/ trainannot/ val/ valannot/ test/ testannot/"),
        joint={"train": "trainval", "val": "test"},
    ),
    Row(
        "custom",
        Root("CUSTOM_YAML", "description of your own set, see docs/datasets.md"),
        spec="make_spec",
        described=True,
    ),
    Row("folder", kind=IMAGES),
    Row("nullloader", kind=BLACK, cityscapes_classes=True),
    Row(
        "mapillary",
        Root(
            "MAPILLARY_DIR", "root of Mapillary Vistas, holds config.json, training/, validation/"
        ),
        spec="make_spec",
    ),
    Row(
        "bdd100k",
        Root("BDD100K_DIR", "holds images/{train,val,test}/ labels/{train,val}/"),
        cityscapes_classes=True,
        server_files=(r"[0-9a-f]{8}-[0-9a-f]{8}\.png", "cabc30fc-e7726578.png"),
    ),
    Row(
        "gtav",
        Root("GTAV_DIR", "holds images/{train,val}/FOLDER/ labels/{train,val}/FOLDER/"),
        splits=("train", "val"),
        folds=("cv", "cv_splits"),
        cityscapes_classes=True,
    ),
    Row(
        "kitti",
        Root("KITTI_DIR", "holds training/image_2/ training/semantic/ testing/image_2/"),
        folds=("cv",),
        joint={"train": "trainval", "val": "trainval"},
        cityscapes_classes=True,
        enlarges=True,
    ),
    Row(
        "ade20k",
        Root("ADE20K_DIR", "ADEChallengeData2016: images/ annotations/"),
        server_files=(r"ADE_(test|val|train)_\d{8}\.png", "ADE_test_00000001.png"),
    ),
    Row("pascal_context", PASCAL_DIR, splits=("train", "val"), server_files=PASCAL_FILES),
    Row(
        "pascal_context_59",
        PASCAL_DIR,
        module="datasets.pascal_context",
        spec="SPEC_59",
        splits=("train", "val"),
        server_files=PASCAL_FILES,
    ),
    Row(
        "imagenet",
        Root("IMAGENET_DIR", "holds train/ and val/ with one folder per class"),
        kind=CLASS_FOLDERS,
        splits=("train", "val"),
    ),
)

TABLE: Mapping[str, Row] = {row.name: row for row in ROWS}


def names(holds: Callable[[Row], object] = lambda row: True) -> tuple[str, ...]:
    """The sets for which a rule holds, in the order of the table."""
    return tuple(row.name for row in ROWS if holds(row))


def paired() -> tuple[str, ...]:
    """The sets of images and label maps."""
    return names(lambda row: row.kind == PAIRS)


def roots() -> tuple[Root, ...]:
    """Every root once: protocols of one set share theirs."""
    return tuple(dict.fromkeys(row.root for row in ROWS if row.root is not None))
