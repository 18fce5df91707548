# SPDX-License-Identifier: Apache-2.0
"""Where data sets, lists of files and caches lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from settings.declare import (
    BETWEEN_EPOCHS,
    BOTH,
    REFUSED,
    SEGMENT,
    UNRELATED,
    Bounds,
    Group,
    setting,
)


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Where the data is, and facts about it: the section `DATASET`."""

    GROUP: ClassVar[Group] = Group(title="data roots", task=BOTH, resume=UNRELATED)

    CITYSCAPES_DIR: str = setting(
        "",
        "--set_cityscapes_root",
        path=True,
        folder=True,
        help="root of Cityscapes, holds leftImg8bit_trainvaltest/, gtFine_trainvaltest/, ...",
        metavar="DIR",
        task=SEGMENT,
        decides=False,
    )
    CITYSCAPES_VIDEO_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="further frames and labels in the same layout, for --maxSkip",
    )
    CITYSCAPES_CUSTOMCOARSE: str = setting(
        "", path=True, folder=True, help="root of the auto-labelled images (ids and _prob.png)"
    )
    MAPILLARY_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="root of Mapillary Vistas, holds config.json, training/, validation/",
    )
    CAMVID_DIR: str = setting(
        "", path=True, folder=True, help="holds train/ trainannot/ val/ valannot/ test/ testannot/"
    )
    BDD100K_DIR: str = setting(
        "", path=True, folder=True, help="holds images/{train,val,test}/ labels/{train,val}/"
    )
    GTAV_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="holds images/{train,val}/FOLDER/ labels/{train,val}/FOLDER/",
    )
    KITTI_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="holds training/image_2/ training/semantic/ testing/image_2/",
    )
    ADE20K_DIR: str = setting(
        "", path=True, folder=True, help="ADEChallengeData2016: images/ annotations/"
    )
    PASCAL_CONTEXT_DIR: str = setting(
        "", path=True, folder=True, help="PASCAL_Context: train/ and val/ with image/ and label/"
    )
    IMAGENET_DIR: str = setting(
        "", path=True, folder=True, help="holds train/ and val/ with one folder per class"
    )
    SYNTHETIC_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="written by `python -m datasets.synthetic`, Cityscapes layout",
    )
    CUSTOM_YAML: str = setting(
        "", path=True, folder=True, help="description of your own set, see docs/datasets.md"
    )
    SKIP_LIST: str = setting(
        "",
        path=True,
        folder=True,
        help="text file of known bad pairs that are left out, see docs/datasets.md",
        resume=BETWEEN_EPOCHS,
    )
    DT_OFFSET_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="root of the boundary files; empty: the root of the data set",
    )
    CENTROID_ROOT: str = setting(
        "",
        path=True,
        folder=True,
        help="folder of the centroid caches; empty: ASSETS_PATH/uniform_centroids",
    )
    CV_SPLITS: int = setting(
        3,
        bounds=Bounds(1, 21),
        help="number of city cross-validation folds of Cityscapes",
        resume=REFUSED,
    )
    CLASS_UNIFORM_BIAS: tuple[float, ...] | None = setting(
        None,
        bounds=Bounds(0, 1000),
        some_above_zero=True,
        help="multiplier of the class-uniform draws, one per class",
        resume=BETWEEN_EPOCHS,
    )
