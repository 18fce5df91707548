# SPDX-License-Identifier: Apache-2.0
"""Where data sets, lists of files and caches lie.

The key of the root of each set comes from its row in `datasets.table`.
"""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from datasets import table
from settings.declare import (
    BETWEEN_EPOCHS,
    BOTH,
    REFUSED,
    SEGMENT,
    UNRELATED,
    Bounds,
    Group,
    Need,
    setting,
)

ROOTS = Group(title="data roots", task=BOTH, resume=UNRELATED)


def _field(root: table.Root) -> Any:
    """The setting of a root; one with a flag belongs to segmentation, as the flag always did."""
    facts: dict[str, Any] = {"path": True, "folder": True, "help": root.help}
    if not root.flag:
        return setting("", **facts)
    return setting("", root.flag, metavar="DIR", task=SEGMENT, decides=False, **facts)


if TYPE_CHECKING:

    class Roots:
        """The root of each data set under its key; code reads them by `DatasetConfig.root`."""

else:
    Roots = make_dataclass(
        "Roots",
        [(root.key, str, _field(root)) for root in table.roots()],
        namespace={"GROUP": ROOTS, "__doc__": "The root of each data set under its key."},
        frozen=True,
        kw_only=True,
    )


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(Roots):
    """Where the data is, and facts about it: the section `DATASET`."""

    GROUP: ClassVar[Group] = ROOTS

    CITYSCAPES_VIDEO_DIR: str = setting(
        "",
        path=True,
        folder=True,
        help="further frames and labels in the layout of Cityscapes, for --maxSkip",
    )
    CITYSCAPES_CUSTOMCOARSE: str = setting(
        "", path=True, folder=True, help="root of the auto-labelled images (ids and _prob.png)"
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
    CACHE_DIR: str = setting(
        "",
        "--cache_dir",
        metavar="DIR",
        path=True,
        folder=True,
        decides=False,
        help="local folder for copies of files that are read, for data on a slow disk",
    )
    CACHE_GB: float = setting(
        100.0,
        "--cache_gb",
        bounds=Bounds(0.001, 1e6),
        decides=False,
        help="room of the copies in GB (10^9 bytes); the least recently used leave first",
        needs=Need(lambda s: s.DATASET.CACHE_DIR, "--cache_dir DIR"),
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

    def root(self, key: str) -> str:
        """What a key of `datasets.table` is set to, empty for nothing."""
        value: str = getattr(self, key)
        return value
