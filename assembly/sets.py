# SPDX-License-Identifier: Apache-2.0
"""Which images a run uses: from flags and configuration to items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from assembly.dataset import data_root, dataset_spec, open_skip_list, split_items
from datasets import cityscapes, folder
from datasets.listing import Items, notes_of
from datasets.places import mounted
from datasets.registry import is_black
from datasets.skip import SkipList
from datasets.spec import AutoLabel, DatasetSpec, Item
from datasets.stamps import Stamps
from datasets.table import TABLE, names
from datasets.verify import fingerprint as digest_of
from runtime.errors import UserError
from runtime.files import stamp_if_there
from runtime.limits import counted
from settings import Settings, catalogue

AUTO_FLAGS = ("custom_coarse_dropout_classes", "custom_coarse_prob", "mask_out_cityscapes")


class Sets:
    """The items of one run: every split is listed once, every file asked once for size and time.

    stamps: what was learned of files so far. skip: the list of known bad pairs, None without one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stamps = Stamps()
        self.skip = open_skip_list(settings)
        self._known: dict[str, list[Item]] = {}

    def _once(self, name: str, listing: Callable[[], list[Item]]) -> list[Item]:
        if name not in self._known:
            self._known[name] = listing()
        return self._known[name]

    @property
    def train(self) -> list[Item]:
        """Training images, all with labels."""
        return self._once("train", lambda: train_items(self.settings, self.skip))

    @property
    def val(self) -> list[Item]:
        """Validation images, all with labels."""
        return self._once("val", lambda: val_items(self.settings, self.skip))

    @property
    def video(self) -> list[Item]:
        """Frames around the training images; none without `--maxSkip`."""
        return self._once(
            "video",
            lambda: _without(self.skip, video_items(self.settings, self.train)),
        )

    def coarse(self, spec: DatasetSpec) -> list[Item]:
        """Extra images that training draws from."""
        return self._once("coarse", lambda: _without(self.skip, coarse_items(self.settings, spec)))

    @property
    def evaluated(self) -> list[Item]:
        """Images of `--eval`."""
        return self._once("eval", lambda: eval_items(self.settings, self.skip))

    def lines(self) -> list[str]:
        """How many images every split that was listed has, and what was left aside in it."""
        counts = ", ".join(
            f"{name} {counted(len(items), 'image')}" for name, items in self._known.items() if items
        )
        notes = [
            f"{name}: {note}" for name, items in self._known.items() for note in notes_of(items)
        ]
        unknown = self.skip.unknown_text() if self.skip is not None else ""
        return [line for line in (counts, *notes, f"warning: {unknown}" if unknown else "") if line]

    def fingerprint(self) -> dict[str, object]:
        """What identifies the data of a run: counts, and a hash of names, sizes and times."""
        settings = self.settings
        inference = settings.inference
        if is_black(settings.data.dataset):
            return {"dataset": settings.data.dataset}
        if inference.eval == "folder":
            digest = digest_of(self.evaluated, cityscapes.SPEC, stamp_if_there)
            found: dict[str, object] = {"folder": inference.eval_folder}
            return {**found, "images": len(self.evaluated), "digest": digest}
        spec = dataset_spec(settings)
        found = {"dataset": settings.data.dataset, "root": str(data_root(settings))}
        if inference.eval:
            kinds = {inference.eval: self.evaluated}
        else:
            kinds = {"train": self.train, "val": self.val}
            extras = {"video": self.video, "coarse": self.coarse(spec)}
            kinds |= {kind: items for kind, items in extras.items() if items}
        for kind, items in kinds.items():
            digest = digest_of(items, spec, self.stamps)
            found[kind] = {"images": len(items), "digest": digest}
        return found


def _value(settings: Settings, flag: str) -> Any:
    return catalogue()[flag].of(settings)


def _without(skip: SkipList | None, items: list[Item]) -> list[Item]:
    return items if skip is None or not items else skip.apply(Items(items, notes_of(items)))


def train_items(settings: Settings, skip: SkipList | None = None) -> list[Item]:
    """Training images of `--dataset`, all with labels."""
    return _with_labels(split_items(settings, "train", skip), settings)


def val_items(settings: Settings, skip: SkipList | None = None) -> list[Item]:
    """Validation images of `--dataset`, all with labels."""
    return _with_labels(split_items(settings, "val", skip), settings)


def test_items(settings: Settings, skip: SkipList | None = None) -> list[Item]:
    """Test images of `--dataset`, with labels where these are public."""
    return split_items(settings, "test", skip)


def extra_items(settings: Settings, skip: SkipList | None = None) -> list[Item]:
    """The extra training images of a set that has coarse ones, without labels."""
    if not TABLE[settings.data.dataset].coarse:
        raise UserError(
            f"--dataset {settings.data.dataset} has no train_extra images; "
            f"{' and '.join(names(lambda row: row.coarse))} have"
        )
    return _without(skip or open_skip_list(settings), cityscapes.list_extra(data_root(settings)))


def coarse_items(settings: Settings, spec: DatasetSpec) -> list[Item]:
    """The extra images that training draws from; none without `--coarse_boost_classes` and kin.

    With DATASET.CITYSCAPES_CUSTOMCOARSE the labels are those of a network, and the rules of
    AUTO_FLAGS hold; without it the annotators' coarse ones. Raises UserError for classes out of
    range, missing files, and rules without auto labels.
    """
    data = settings.data
    for flag in ("coarse_boost_classes", "custom_coarse_dropout_classes"):
        unknown = [value for value in _value(settings, flag) or () if value >= spec.num_classes]
        if unknown:
            raise UserError(
                f"--{flag}: there is no class {unknown[0]}; "
                f"{spec.name} has 0..{spec.num_classes - 1}"
            )
    if not data.coarse_boost_classes and not data.only_coarse:
        return []
    root, auto_root = data_root(settings), settings.DATASET.CITYSCAPES_CUSTOMCOARSE
    if auto_root:
        path = mounted(Path(settings.expand(auto_root)))
        if not path.is_dir():
            raise UserError(f"DATASET.CITYSCAPES_CUSTOMCOARSE is {path}, which is no folder")
        rules = AutoLabel(
            threshold=data.custom_coarse_prob,
            union_classes=tuple(data.custom_coarse_dropout_classes or ()),
            mask_out=data.mask_out_cityscapes,
        )
        return cityscapes.list_auto(root, path, rules)
    for flag in AUTO_FLAGS:
        if _value(settings, flag):
            raise UserError(
                f"--{flag} is a rule for auto-labelled images, but DATASET.CITYSCAPES_CUSTOMCOARSE "
                "is not set: name their folder there or leave the flag out"
            )
    return cityscapes.list_coarse(root)


def video_items(settings: Settings, items: list[Item]) -> list[Item]:
    """The frames around the training images that `--maxSkip` adds; none without it."""
    if not settings.data.maxSkip:
        return []
    key, place = "DATASET.CITYSCAPES_VIDEO_DIR", settings.DATASET.CITYSCAPES_VIDEO_DIR
    path = mounted(Path(settings.expand(place))) if place else Path()
    if not place or not path.is_dir():
        state = f"is {path}, which is no folder" if str(path) != "." else "is not set"
        raise UserError(f"--maxSkip needs further frames, but {key} {state}: name their root there")
    return cityscapes.list_video(path, items, settings.data.maxSkip)


def _with_labels(items: list[Item], settings: Settings) -> list[Item]:
    bare = [item for item in items if item.label is None]
    if bare and not is_black(settings.data.dataset):
        raise UserError(
            f"{bare[0].image} has no label ({len(bare)} of {counted(len(items), 'image')} "
            "have none); training and validation need labels"
        )
    return items


def eval_items(settings: Settings, skip: SkipList | None = None) -> list[Item]:
    """Images of `--eval val|trn|folder|test|train_extra`, of which --split_index is evaluated.

    The parts of --split_count are consecutive. Raises UserError for a part without any image.
    """
    inference = settings.inference
    if inference.eval == "folder":
        results = Path(settings.run.result_dir) if settings.run.result_dir else None
        place = Path(inference.eval_folder or "")
        every: list[Item] = folder.list_items(place, results=results)
        every = _without(skip or open_skip_list(settings), every)
    else:
        listing = {"val": val_items, "trn": train_items, "test": test_items}
        listing["train_extra"] = extra_items
        every = listing[str(inference.eval)](settings, skip)
    first, stop = (
        part * len(every) // inference.split_count
        for part in (inference.split_index, inference.split_index + 1)
    )
    if first == stop:
        raise UserError(
            f"--split_count {inference.split_count}: there are only {counted(len(every), 'image')}"
        )
    return Items(every[first:stop], notes_of(every))
