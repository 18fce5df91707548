# SPDX-License-Identifier: Apache-2.0
"""Recorded transforms of HMSA: crops, resizes, photometric operations.

The fixtures were drawn from Python's `random`; its methods are those of `Draws`, so the same
seeds give the same parameters here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from tests.parity.published import OffCentreCropPad, dark_bilateral_blur
from transforms import photometric
from transforms.joint import CropRules, RandomScale, RandomSizeAndCrop, ResizeHeight, ScaleLongEdge
from transforms.randaugment import RANGES, apply_operation, signed
from transforms.resample import Resample
from transforms.sample import Sample

NUM_CLASSES, IGNORE = 19, 255
SCALES = ((0.5, 2.0), (0.5, 0.6))  # usual ranges; the recorded scale tells which was drawn from
GREY_LEVEL = 1
USUAL_PICTURE, USUAL_MAGNITUDE, USUAL_SEED = (40, 56, 6), 10, 1
HUE_STEP = 6  # grey levels, of one step of the eight-bit hue; see `adjust_hue`
CLOSE = 1e-9


def picture(height: int, width: int, seed: int, **facts: Any) -> Sample:
    """The sample all transform fixtures start from."""
    image = np.clip(recipe.image(height, width, seed) * 50 + 128, 0, 255).astype(np.uint8)
    label = recipe.label(height, width, NUM_CLASSES, seed).astype(np.uint8)
    return Sample(np.ascontiguousarray(image.transpose(1, 2, 0)), label, "recorded", **facts)


def range_of(case: Record, size: tuple[int, int]) -> tuple[float, float, int | None]:
    """Scale range and `pre_size` with which the seed of a case draws its recorded scale."""
    ranges = list(SCALES)
    if "scale_min" in case and "scale_max" in case:
        ranges.insert(0, (case["scale_min"], case["scale_max"]))
    found: list[tuple[float, float, int | None]] = []
    for low, high in ranges:
        drawn = random.Random(case["python_random_seed"]).uniform(low, high)
        pre_size = case["scale"] / drawn * max(size)
        if abs(case["scale"] - drawn) < CLOSE:
            found.insert(0, (low, high, None))
        elif abs(pre_size - round(pre_size)) < CLOSE * max(size) and round(pre_size) > 0:
            found.append((low, high, round(pre_size)))
    if not found:
        raise CannotRun(f"scale: no known range draws {case['scale']} from this seed")
    return found[0]


def recorded_crop(case: Record, sample: Sample, resample: Resample) -> Sample:
    """RandomSizeAndCrop with the draws of the recording."""
    low, high, pre_size = range_of(case, sample.size)
    width, height = case["out_size_wh"]
    crop = RandomSizeAndCrop(
        (height, width),
        IGNORE,
        RandomScale(scale_min=low, scale_max=high, pre_size=pre_size),
        CropRules(slide_small=case.get("translate_aug_fix", False)),
        resample,
    )
    draws = random.Random(case["python_random_seed"])
    window = crop.draw(sample.size, sample.centroid, draws)
    return crop.apply(sample, window)


def resized(case: Record, sample: Sample, resample: Resample) -> Iterator[Sample]:
    """What the transforms without a draw make of an image, those that give the recorded size.

    The case says which one it was only in its title, so all are tried.
    """
    width, height = case["out_size_wh"]
    yield ScaleLongEdge(max(width, height), resample)(sample)
    yield ResizeHeight(height, resample)(sample)
    if width == height:
        yield OffCentreCropPad(width, IGNORE)(sample)


def replayed(case: Record, resample: Resample, image: np.ndarray) -> Sample:
    """The result of one case, of several possible ones that nearest to the recorded `image`."""
    centroid = tuple(case["centroid"]) if case.get("centroid") else None
    sample = picture(*case["input"], centroid=centroid)
    if case["scale"] is not None:
        return recorded_crop(case, sample, resample)
    found = [each for each in resized(case, sample, resample) if each.image.shape == image.shape]
    if not found:
        raise CannotRun("cases: no known transform without a scale gives the recorded size")
    return min(found, key=lambda each: np.abs(each.image.astype(int) - image).mean())


def check_transforms(fixture: Fixture) -> list[Row]:
    """Images of both engines within a grey level, labels exactly."""
    rows: list[Row] = []
    for number, case in enumerate(fixture.cases):
        image, mask = (fixture.arrays[name] for name in case["arrays"])
        for resample in ("pillow", "fast"):
            sample = replayed(case, resample, image)
            name = f"{fixture.name}/{number} ({resample})"
            width, height = case["out_size_wh"]
            rows += [
                same(f"{name} size", list(sample.size), [height, width]),
                compare(name, sample.image, image, atol=GREY_LEVEL),
                compare(f"{name} label", sample.label, mask),
            ]
            if "mask_l1" in case:
                total = int(sample.label.sum(dtype=np.int64))
                rows.append(compare(f"{name} label sum", total, case["mask_l1"]))
    return rows


def said(text: str, pattern: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    """The numbers of a setting that the fixture states in words."""
    found = re.search(pattern, text)
    return tuple(int(group) for group in found.groups()) if found else usual


def operation_row(name: str, sample: Sample, want: np.ndarray, text: str) -> list[Row]:
    """One photometric operation, whose name and strength are the array's name."""
    kind, _, rest = name.partition("_")
    blurs = {"gblur": photometric.gaussian_blur, "bblur": dark_bilateral_blur}
    if kind == "ra":
        operation, part = rest.rsplit("_", 1)
        (magnitude,) = said(text, r"M=(\d+)", (USUAL_MAGNITUDE,))
        (seed,) = said(text, r"random\.seed\((\d+)\)", (USUAL_SEED,))
        moved = apply_operation(sample, signed(operation, magnitude, random.Random(seed)), IGNORE)
        got = moved.image if part == "img" else moved.label
        return [compare(name, got, want, atol=GREY_LEVEL if part == "img" else 0)]
    if kind in blurs:
        sigma = float(rest.removeprefix("sigma_"))
        return [compare(name, blurs[kind](sample.image, sigma), want, atol=GREY_LEVEL)]
    if kind not in photometric.ADJUSTMENTS:
        raise CannotRun(f"the array {name} names no known operation")
    got = photometric.ADJUSTMENTS[kind](sample.image, float(rest))
    if kind != "hue":
        return [compare(name, got, want, atol=GREY_LEVEL)]
    share = np.mean(np.any(got != want, axis=2))
    return [
        compare(name, got, want, atol=HUE_STEP),
        compare(f"{name}, share of pixels", int(share > 0.01), 0),
    ]


def check_photometric(fixture: Fixture) -> list[Row]:
    """Single operations at fixed strength, and the strengths of RandAugment."""
    text = str(fixture.header.get("what", ""))
    sample = picture(*said(text, r"\((\d+),\s*(\d+),\s*seed (\d+)\)", USUAL_PICTURE))
    rows: list[Row] = []
    for name in fixture.arrays:
        rows += operation_row(name, sample, fixture.arrays[name], text)
    if "arrays" in fixture.header:
        names = sorted(fixture.header["arrays"])
        rows.append(same(f"{fixture.name} names", sorted(fixture.arrays), names))
    for name, *limits in fixture.header.get("randaugment_ops", []):
        if name not in RANGES:
            raise CannotRun(f"randaugment_ops: {name} is no known operation")
        rows.append(compare(f"{fixture.name} range of {name}", list(RANGES[name]), limits))
    return rows


def is_photometric(fixture: Fixture) -> bool:
    kinds = {*photometric.ADJUSTMENTS, "gblur", "bblur", "ra"}
    names = {name.split("_")[0] for name in fixture.arrays}
    return "cases" not in fixture.header and bool(names) and names <= kinds


CHECKS = (
    Check(
        "hmsa transforms",
        lambda fixture: "out_size_wh" in first_case(fixture),
        check_transforms,
        {
            "cases.*.label": "what the case is called",
            "input_is": "names the numbers of an input",
            "cases.*.python_random_seed": "of no effect where nothing is drawn",
            "cases.*.centroid": "of no effect where no crop is drawn",
            "cases.*.translate_aug_fix": "of no effect on images that fill the crop",
        },
    ),
    Check("hmsa photometric", is_photometric, check_photometric, {"hue": "in words"}),
)
