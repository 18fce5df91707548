# SPDX-License-Identifier: Apache-2.0
"""Recorded transforms, class-uniform centroids and epochs, and rank splits of HMSA.

The fixtures were drawn from Python's `random`; its methods are those of `Draws`, so the same
seeds give the same parameters here.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import torch

from datasets.centroids import label_centroids
from datasets.cityscapes import SPEC
from datasets.samplers import split_over_ranks
from datasets.uniform import epoch_list
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare, failure
from transforms import photometric
from transforms.joint import CenterCropPad, RandomSizeAndCrop, ResizeHeight, ScaleLongEdge
from transforms.randaugment import RANGES, apply_operation, signed
from transforms.resample import Resample
from transforms.sample import Sample

NUM_CLASSES, IGNORE = 19, 255
SCALES = ((0.5, 2.0), (0.5, 0.6))  # the recordings' ranges; the recorded scale tells which
GREY_LEVEL = 1
MAGNITUDE = 10


def picture(height: int, width: int, seed: int, **facts: Any) -> Sample:
    """The sample all transform fixtures start from."""
    image = np.clip(recipe.image(height, width, seed) * 50 + 128, 0, 255).astype(np.uint8)
    label = recipe.label(height, width, NUM_CLASSES, seed).astype(np.uint8)
    return Sample(np.ascontiguousarray(image.transpose(1, 2, 0)), label, "recorded", **facts)


def recorded_crop(case: dict[str, Any], sample: Sample, resample: Resample) -> Sample:
    """RandomSizeAndCrop with the draws of the recording; ValueError when no range gives them."""
    found = re.search(r"pre_size (\d+)", case["label"])
    pre_size = int(found[1]) if found else None
    width, height = case["out_size_wh"]
    factor = pre_size / max(sample.size) if pre_size else 1.0
    for low, high in SCALES:
        seed = case["python_random_seed"]
        scale = random.Random(seed).uniform(low, high) * factor
        if abs(scale - case["scale"]) > 1e-9:
            continue
        crop = RandomSizeAndCrop(
            (height, width),
            IGNORE,
            scale_min=low,
            scale_max=high,
            pre_size=pre_size,
            full_crop="full_size" in case["label"],
            slide_small=case["translate_aug_fix"],
            resample=resample,
        )
        window = crop.draw(sample.size, sample.centroid, random.Random(seed))
        return crop.apply(sample, window)
    raise ValueError(f"no known range of scales draws {case['scale']}")


def replayed(case: dict[str, Any], resample: Resample) -> Sample:
    """The result of one case of `data_transforms`."""
    centroid = tuple(case["centroid"]) if case["centroid"] else None
    sample = picture(*case["input"], centroid=centroid)
    name, _, rest = case["label"].partition(" ")
    if case["scale"] is not None:
        return recorded_crop(case, sample, resample)
    number = int(re.search(r"\d+", rest)[0])
    if name == "CenterCropPad":
        return CenterCropPad(number, IGNORE, off_centre=True)(sample)
    return {"Scale": ScaleLongEdge, "ResizeHeight": ResizeHeight}[name](number, resample)(sample)


def check_transforms(fixture: Fixture) -> list[Row]:
    """Images of both engines within a grey level, labels exactly."""
    rows = []
    for case in fixture.header["cases"]:
        image, mask = (fixture.arrays[name] for name in case["arrays"])
        for resample in ("pillow", "fast"):
            try:
                sample = replayed(case, resample)
            except (ValueError, KeyError) as error:
                rows.append(failure(case["label"], str(error)))
                continue
            name = f"{case['label']} ({resample})"
            rows.append(compare(name, sample.image, image, atol=GREY_LEVEL))
            rows.append(compare(f"{name}, label", sample.label, mask))
    return rows


def check_photometric(fixture: Fixture) -> list[Row]:
    """Single operations at fixed strength."""
    sample, rows = picture(40, 56, 6), []
    dark = partial(photometric.bilateral_blur, dark_border=True)
    blurs = {"gblur": photometric.gaussian_blur, "bblur": dark}
    for name, want in fixture.arrays.items():
        kind, _, rest = name.partition("_")
        if kind == "ra":
            operation, part = rest.rsplit("_", 1)
            drawn = signed(operation, MAGNITUDE, random.Random(1))
            moved = apply_operation(sample, drawn, IGNORE)
            got = moved.image if part == "img" else moved.label
            rows.append(compare(name, got, want, atol=GREY_LEVEL if part == "img" else 0))
        elif kind in blurs:
            sigma = float(rest.removeprefix("sigma_"))
            rows.append(compare(name, blurs[kind](sample.image, sigma), want, atol=GREY_LEVEL))
        else:
            # One step of the eight-bit hue is up to six grey levels; see `adjust_hue`.
            atol = 6 if kind == "hue" else GREY_LEVEL
            got = photometric.ADJUSTMENTS[kind](sample.image, float(rest))
            rows.append(compare(name, got, want, atol=atol))
            if kind == "hue":
                share = np.mean(np.any(got != want, axis=2))
                rows.append(compare(f"{name}, share of pixels", share, 0, atol=0.01))
    ranges = {name: tuple(limits) for name, *limits in fixture.header["randaugment_ops"]}
    rows.append(compare("ranges", list(RANGES.values()), [ranges.get(n, (-1, -1)) for n in RANGES]))
    return rows


def shapes(height: int, width: int) -> np.ndarray:
    """The drawing of the centroid fixture, raw Cityscapes ids."""
    label = np.full((height, width), 7, np.uint8)
    rows, cols = np.mgrid[0:height, 0:width]
    label[np.hypot(rows - 0.3 * height, cols - 0.35 * width) < 0.2 * height] = 26
    label[: height // 5] = 23
    label[height // 2 : height // 2 + 6, width // 3 : width // 3 + 40] = 24
    label[-9:] = 1
    label[5:9, width - 20 : width - 3] = 20
    label[height - 30 : height - 20, 10:12] = 33
    return SPEC.lut()[label].astype(np.uint8)


def check_centroids(fixture: Fixture) -> list[Row]:
    """Points of every class in order, and the make-up of whole epochs."""
    rows = []
    for case in fixture.header["cases"]:
        kind, numbers = case["source"].rstrip(")").split("(")
        size = [int(number) for number in numbers.split(",")]
        label = shapes(*size) if kind == "shapes" else recipe.label(*size).astype(np.uint8)
        points = label_centroids(label, case["num_classes"], case["tile"], clip_tile=False)
        got = [(k, *xy) for k, pairs in sorted(points.items()) for xy in pairs]
        recorded = sorted((int(k), pairs) for k, pairs in case["centroids"].items())
        want = [(k, *xy) for k, pairs in recorded for xy in pairs]
        rows.append(compare(case["label"], got, want))
    for case in fixture.header["build_epoch"]:
        rows += epoch_rows(case)
    return rows


def epoch_rows(case: dict[str, Any]) -> list[Row]:
    """Length, order and repeats of one epoch."""
    points = {
        int(k): [(10**6 * int(k) + n, n, int(k)) for n in range(count)]
        for k, count in case["centroids_per_class"].items()
    }
    num_images, num_random = case["num_images"], case["random_items"]
    entries = epoch_list(num_images, points, case["pct"], case["num_classes"], seed=0, epoch=0)
    whole = [item for item, point in entries if point is None]
    classes = [point[1] for _, point in entries[num_random:] if point is not None]
    order = [int(k) for k, count in sorted_classes(case) for _ in range(count)]
    repeats = Counter((item, point) for item, point in entries if point is not None)
    most = Counter[int]()
    for (_, point), count in repeats.items():
        most[point[1]] = max(most[point[1]], count)
    name = f"epoch of {num_images}, {case['num_classes']} classes, pct {case['pct']}"
    repeat = max(Counter(whole).values(), default=0)
    wanted = {int(k): count for k, count in case["max_repeat_of_a_centroid"].items()}
    return [
        compare(f"{name}: length", len(entries), case["length"]),
        compare(f"{name}: whole images first", len(whole), num_random),
        compare(f"{name}: classes ascending", classes, order),
        compare(f"{name}: repeats of an image", repeat, case["max_repeat_of_an_image"]),
        compare(f"{name}: repeats of a point", sorted(most.items()), sorted(wanted.items())),
    ]


def sorted_classes(case: dict[str, Any]) -> list[tuple[int, int]]:
    """(class, draws) in ascending order of the class."""
    return sorted((int(k), count) for k, count in case["per_class"].items())


def check_sampler(fixture: Fixture) -> list[Row]:
    """Indices of every rank, with the official permutation."""
    rows = []
    for case in fixture.header["cases"]:
        order = list(range(case["n"]))
        if case["permutation"]:
            generator = torch.Generator().manual_seed(case["epoch"])
            order = torch.randperm(case["n"], generator=generator).tolist()
        got = [
            split_over_ranks(
                order,
                rank,
                case["replicas"],
                tail="pad" if case["pad"] else "drop",
                consecutive=case["consecutive_sample"],
            )
            for rank in range(case["replicas"])
        ]
        name = f"n {case['n']}, {case['replicas']} ranks, epoch {case['epoch']}"
        rows.append(compare(name, got, case["indices_per_rank"]))
    return rows


CHECKS = {
    "data_transforms": check_transforms,
    "data_photometric": check_photometric,
    "data_centroids": check_centroids,
    "data_sampler": check_sampler,
}
