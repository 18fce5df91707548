# SPDX-License-Identifier: Apache-2.0
"""The synthetic street set: procedural scenes on disk, in exact Cityscapes layout.

    python -m datasets.synthetic data/synthetic                        # 48 + 12 + 6 scenes
    python -m datasets.synthetic ROOT --size 512,1024 --train 500 --val 100 --seed 7 --coarse 50

The same arguments give the same bytes. The folder appears complete or not at all, and a second run
with the same arguments does nothing; `synthetic.json` in it records them. Unlike in the real set,
the labels of the test split are real. With `--coarse N`:

    ROOT/leftImg8bit_trainextra/leftImg8bit/train_extra/CITY/*_leftImg8bit.png
    ROOT/gtCoarse/gtCoarse/train_extra/CITY/*_gtCoarse_labelIds.png   shrunken regions, rest id 0
    ROOT/autolabelled/train_extra/CITY/*_leftImg8bit.png, *_leftImg8bit_prob.png   own root:
        ids as a network would answer them, and its confidence times 255
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from datasets import cityscapes
from datasets.spec import Item
from datasets.synthetic_canvas import smooth_noise
from runtime.errors import UserError, wrong_input
from runtime.progress import Log

SPEC = dataclasses.replace(cityscapes.SPEC, name="synthetic")
MANIFEST = "synthetic.json"
VERSION = 1  # of the scenes; the same arguments give the same bytes while it stays

# Invented cities. They come in blocks of scenes, as recordings do.
CITIES = {
    "train": ("altmoor", "birkhafen", "castelmar", "dornfeld", "eschwyl", "farnbruck"),
    "val": ("grauburg", "hollstatt"),
    "test": ("ilmenach",),
    "train_extra": ("jorvelden", "kaltenau"),
}
AUTO_ROOT = "autolabelled"

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """What a set consists of; the size is (H, W) in pixels, the others are numbers of scenes."""

    size: tuple[int, int] = (128, 256)
    train: int = 48
    val: int = 12
    test: int = 6
    coarse: int = 0
    seed: int = 0

    def manifest(self) -> dict[str, object]:
        """The content of synthetic.json."""
        return {"version": VERSION, **dataclasses.asdict(self), "size": list(self.size)}


USUAL_SCENES = ScenePlan()


def list_items(root: Path, split: str, *, cv: int = 0, cv_splits: int = 3) -> list[Item]:
    """The scenes of a split, as `cityscapes.list_items`; test has labels too."""
    return cityscapes.list_items(root, split, cv=cv, cv_splits=cv_splits, test_labels=True)


def write_synthetic(
    root: Path, plan: ScenePlan = USUAL_SCENES, *, force: bool = False, log: Log = print
) -> bool:
    """Write the set to `root`; False when it is there already.

    `force` replaces a synthetic set made with other arguments.
    Raises UserError for a folder that holds anything else, and for one that cannot be written.
    """
    wanted = plan.manifest()
    if _is_done(root, wanted, force):
        log(f"{root}: is there already, with the same arguments")
        return False
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}.") as folder:
            part = Path(folder) / "set"
            _write_scenes(part, plan)
            (part / MANIFEST).write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
            if root.exists() and any(root.iterdir()):
                shutil.rmtree(root)
            os.replace(part, root)
    except OSError as error:
        raise UserError(f"{root}: the synthetic set cannot be written: {error}") from error
    log(
        f"{root}: {plan.train} train, {plan.val} val, {plan.test} test, {plan.coarse} coarse scenes"
    )
    return True


def _is_done(root: Path, wanted: dict[str, object], force: bool) -> bool:
    if not root.exists():
        return False
    if not root.is_dir():
        raise UserError(f"{root}: is a file; name a folder for the synthetic set")
    if not any(root.iterdir()):
        return False
    manifest = root / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{root}: holds other files and no {MANIFEST}; name a new folder")
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != wanted and not force:
        raise UserError(
            f"{root}: holds a synthetic set made with other arguments ({MANIFEST}); name another "
            "folder, or replace it with --force"
        )
    return found == wanted


def _write_scenes(root: Path, plan: ScenePlan) -> None:
    for split, count in (("train", plan.train), ("val", plan.val), ("test", plan.test)):
        images = root / "leftImg8bit_trainvaltest" / "leftImg8bit" / split
        labels = root / "gtFine_trainvaltest" / "gtFine" / split
        for folder in (images, labels):
            folder.mkdir(parents=True)
        for frame, (image, ids) in _scenes(plan, split, count):
            _save(images / f"{frame}_leftImg8bit.png", image)
            _save(labels / f"{frame}_gtFine_labelIds.png", ids)
    if not plan.coarse:
        return
    for number, (frame, (image, ids)) in enumerate(_scenes(plan, "train_extra", plan.coarse)):
        extra = root / "leftImg8bit_trainextra" / "leftImg8bit" / "train_extra"
        coarse = root / "gtCoarse" / "gtCoarse" / "train_extra"
        auto = root / AUTO_ROOT / "train_extra"
        guess, prob = auto_label(ids, np.random.default_rng([plan.seed, 9, number]))
        _save(extra / f"{frame}_leftImg8bit.png", image)
        _save(coarse / f"{frame}_gtCoarse_labelIds.png", coarse_label(ids))
        _save(auto / f"{frame}_leftImg8bit.png", guess)
        _save(auto / f"{frame}_leftImg8bit_prob.png", prob)


def _scenes(plan: ScenePlan, split: str, count: int) -> Iterator[tuple[str, tuple[Pixels, Pixels]]]:
    """(CITY/CITY_SSSSSS_FFFFFF, (image, ids)) of every scene of a split."""
    from datasets.synthetic_scene import render

    cities = CITIES[split]
    stream = list(CITIES).index(split)
    for index in range(count):
        city = cities[index * len(cities) // count]
        frame = f"{city}/{city}_{index:06d}_000019"
        yield frame, render((plan.seed, stream, index), *plan.size)


def _save(path: Path, image: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = image[..., ::-1] if image.ndim == 3 else image
    is_encoded, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    assert is_encoded, path
    path.write_bytes(data.tobytes())


def coarse_label(ids: Pixels) -> Pixels:
    """Coarse annotation of raw ids (H, W): a rough polygon inside every larger region, else 0."""
    margin = max(ids.shape[0] // 48, 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    result = np.zeros_like(ids)
    for raw in np.unique(ids[np.isin(ids, SPEC.train_id_to_id)]).tolist():
        inside = cv2.erode((ids == raw).astype(np.uint8), kernel, borderValue=0)
        outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        rough = [cv2.approxPolyDP(line, 0.7 * margin, True) for line in outlines]
        region = np.zeros_like(ids)
        cv2.drawContours(region, rough, -1, 1, cv2.FILLED)
        result[(region > 0) & (inside > 0)] = raw
    return result


def auto_label(ids: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """What a trained network might answer for raw ids (H, W): ids, and probability * 255.

    Void is filled from its surroundings, outlines are smoothed, some blobs are wrong; the
    probability falls towards outlines and is low where the answer is wrong.
    """
    is_class = np.isin(ids, SPEC.train_id_to_id)
    _, nearest = cv2.distanceTransformWithLabels(
        (~is_class).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(nearest.max()) + 1, np.uint8)
    owner[nearest[is_class]] = ids[is_class]
    size = 2 * (ids.shape[0] // 128) + 3
    guess = cv2.medianBlur(owner[nearest], min(size, 5))
    edges = cv2.morphologyEx(guess, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0
    distance = cv2.distanceTransform(edges.astype(np.uint8), cv2.DIST_L2, 3)
    noise = smooth_noise(rng, ids.shape[0], ids.shape[1], (5, 9))
    prob = 1 - 0.5 * np.exp(-distance / (0.02 * ids.shape[0])) - 0.03 * np.abs(noise)
    wrong = noise > 2.3
    guess[wrong] = np.roll(guess, ids.shape[1] // 7, axis=1)[wrong]
    prob[wrong] *= 0.45
    return np.asarray(guess, np.uint8), np.clip(prob * 255, 0, 255).astype(np.uint8)


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: HEIGHT,WIDTH wanted") from None
    if min(height, width) < 32:
        raise argparse.ArgumentTypeError(f"{text}: at least 32 pixels each way wanted")
    return height, width


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: a whole number, not negative, wanted")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="datasets.synthetic", description=__doc__.split("\n")[0])
    parser.add_argument("root", type=Path, help="folder to write, e.g. data/synthetic")
    usual = USUAL_SCENES
    parser.add_argument("--size", type=_size, default=usual.size, help="HEIGHT,WIDTH in pixels")
    for name in ("train", "val", "test", "coarse"):
        default = getattr(usual, name)
        parser.add_argument(f"--{name}", type=_count, default=default, help="number of scenes")
    parser.add_argument(
        "--seed", type=_count, default=usual.seed, help="another seed, other scenes"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing synthetic set")
    args = vars(parser.parse_args(argv))
    root, force = args.pop("root"), args.pop("force")
    cv2.setNumThreads(1)
    try:
        write_synthetic(root, ScenePlan(**args), force=force)
    except UserError as error:
        return wrong_input(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
