# SPDX-License-Identifier: Apache-2.0
"""Recorded training pipeline, crops, distortion, sizes, label shift and classes of mmsegmentation.

The fixtures were drawn from NumPy's legacy global generator, whose calls `LegacyDraws` makes, so
the same seeds give the same parameters here.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from datasets import ade20k, cityscapes, pascal_context
from datasets.spec import IGNORE, UNKNOWN, zero_label_ids
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from transforms.distortion import PhotometricDistortion, distort
from transforms.joint import HorizontalFlip
from transforms.mmseg import CornerPad, MixedCrop, RatioResize, aligned_size, keep_ratio_size
from transforms.normalize import MEAN, STD, to_tensor
from transforms.sample import Sample

STEPS = "steps_name_shape_imagemean_labelsum"
BLOCK = r"all (\d+) except the top-left (\d+)x(\d+) block of (\d+)"
SPECS = (cityscapes.SPEC, ade20k.SPEC, pascal_context.SPEC)


class LegacyDraws:
    """`Draws` from `numpy.random.RandomState`, noting every call as the fixtures do."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.RandomState(seed)
        self.calls: list[list[Any]] = []  # function, arguments, value

    @property
    def values(self) -> list[float]:
        """What was drawn, in order."""
        return [value for *_, value in self.calls]

    def uniform(self, a: float, b: float) -> float:
        value = float(self._rng.uniform(a, b))
        self.calls.append(["uniform", [a, b], value])
        return value

    def randint(self, a: int, b: int) -> int:
        value = int(self._rng.randint(a, b + 1))
        self.calls.append(["randint", [b + 1] if a == 0 else [a, b + 1], value])
        return value


def sample_of(image: np.ndarray, label: np.ndarray) -> Sample:
    """A recorded image, which is BGR."""
    return Sample(np.ascontiguousarray(image[..., ::-1]), label.astype(np.uint8), "recorded")


def crop_label(case: Record) -> np.ndarray:
    """The label that the crops of a case are judged by."""
    size = case["image_height"], case["image_width"]
    if isinstance(case["label"], Record):
        return recipe.label(*size, case["label"]["num_classes"], case["label"]["seed"])
    found = re.match(BLOCK, case["label"])
    if found is None:
        raise CannotRun(f"cases: the label {case['label']!r} is not understood")
    rest, height, width, block = (int(group) for group in found.groups())
    label = np.full(size, rest)
    label[:height, :width] = block
    return label


def check_random_crop(fixture: Fixture) -> list[Row]:
    """Every box that was drawn, and the one that was used."""
    rows = []
    for number, case in enumerate(fixture.header["cases"]):
        label = crop_label(case)
        sample = sample_of(np.zeros((*label.shape, 3), np.uint8), label)
        height, width = case["crop_size"]
        crop, draws = MixedCrop((height, width), IGNORE), LegacyDraws(case["numpy_seed"])
        corner = crop.draw(sample, draws)
        corners = np.reshape(draws.values, (-1, 2))
        boxes = np.stack(
            [corners[:, 0], corners[:, 0] + height, corners[:, 1], corners[:, 1] + width], axis=1
        )
        used = [corner.top, corner.top + height, corner.left, corner.left + width]
        name = f"case {number}"
        rows.append(compare(f"{name}: boxes", boxes, case["boxes_drawn_y1_y2_x1_x2"]))
        rows.append(compare(f"{name}: used", used, case["used"]))
        rows.append(
            compare(f"{name}: shape", crop.apply(sample, corner).size, case["result_shape"])
        )
    return rows


def check_photometric(fixture: Fixture) -> list[Row]:
    """Draws in order, and the images to the grey level."""
    rows = []
    image = np.ascontiguousarray(fixture.arrays["image"][..., ::-1])
    for number, case in enumerate(fixture.header["cases"]):
        draws = LegacyDraws(case["numpy_seed"])
        drawn = PhotometricDistortion().draw(draws)
        name = f"case {number}"
        rows.append(same(f"{name}: draws", draws.calls, case["draws"]))
        for key, want in case["parameters"].items():
            got = getattr(drawn, key)
            missing = float("nan")
            pair = [missing if value is None else value for value in (got, want)]
            rows.append(compare(f"{name}: {key}", *pair))
        picture = distort(image, drawn)[..., ::-1]
        rows.append(compare(name, picture, fixture.arrays[f"out_{number}"]))
    return rows


def normalisation_rows(fixture: Fixture) -> list[Row]:
    """Mean and deviation of the colours, where the fixture states them."""
    spec = fixture.header.get("normalize")
    if spec is None:
        return []
    values = np.concatenate([spec["mean"], spec["std"]])
    ours = 255 * np.array([*MEAN, *STD])
    return [
        compare(f"{fixture.name}: normalisation", ours, values, rtol=1e-6),
        same(f"{fixture.name}: colours are turned round", True, spec["to_rgb"]),
    ]


def pipeline_steps(case: Record, sample: Sample) -> tuple[dict[str, Sample], list[Row]]:
    """The sample after every step, by its published name; rows of what was drawn."""
    draws, name = LegacyDraws(case["numpy_seed"]), f"case {case['index']}"
    crop_size = tuple(case["crop_size_h_w"])
    resize = RatioResize(tuple(case["img_scale_w_h"]), tuple(case["ratio_range"]))
    box = resize.draw(draws)
    steps = {"Resize": (sample := resize.apply(sample, box))}
    crop = MixedCrop(crop_size, IGNORE)
    steps["RandomCrop"] = sample = crop.apply(sample, crop.draw(sample, draws))
    flip = HorizontalFlip()
    flipped = flip.draw(draws)
    steps["RandomFlip"] = sample = flip.apply(sample, flipped)
    distortion = PhotometricDistortion()
    sample = distortion.apply(sample, distortion.draw(draws))
    steps["PhotoMetricDistortion"] = steps["Normalize"] = sample
    steps["Pad"] = CornerPad(crop_size, IGNORE)(sample)
    return steps, [
        compare(f"{name}: box", box, case["scale_drawn_w_h"]),
        same(f"{name}: flip", bool(flipped), case["flip"]),
    ]


def check_train_pipeline(fixture: Fixture) -> list[Row]:
    """Size, mean and label sum after every step, and the network input at the end."""
    rows = normalisation_rows(fixture)
    for case in fixture.cases:
        number, name = case["index"], f"case {case['index']}"
        first = sample_of(fixture.arrays[f"image_{number}"], fixture.arrays[f"label_{number}"])
        steps, drawn = pipeline_steps(case, first)
        rows += drawn
        rows.append(same(f"{name}: steps", list(steps), [step for step, *_ in case[STEPS]]))
        for step, shape, mean, label_sum in case[STEPS]:
            after = steps[step]
            image = after.image
            if step in ("Normalize", "Pad"):
                image = to_tensor(after.image, after.valid).numpy()
            rows += [
                compare(f"{name}: size after {step}", after.size, shape),
                compare(f"{name}: mean after {step}", image.mean(), mean, atol=1e-5),
                compare(f"{name}: label after {step}", after.label.sum(), label_sum),
            ]
        final = steps["Pad"]
        tensor = to_tensor(final.image, final.valid).numpy()
        want, label = (fixture.arrays[f"out_{kind}_{number}"] for kind in ("image", "label"))
        step = max(1, round(tensor.shape[-1] / want.shape[-1]))
        rows += [
            compare(f"{name}: input", tensor[:, ::step, ::step], want, atol=1e-5),
            compare(f"{name}: label", final.label, label),
        ]
    return rows


def check_rescale(fixture: Fixture) -> list[Row]:
    """Sizes of the keep-ratio resize, plain and raised to multiples of 32."""
    rows = []
    for width, height, long, short, *want in fixture.header["rows"]:
        size = keep_ratio_size((height, width), (long, short))
        got = [*size[::-1], *aligned_size(size, 32)[::-1]]
        rows.append(compare(f"{width}x{height} into {long}x{short}", got, want))
    return rows


def check_zero_label(fixture: Fixture) -> list[Row]:
    """The shift of all values, and of ADE20K its classes; there other values are errors."""
    table = fixture.header["table"]
    shifted = zero_label_ids(254)
    lut = ade20k.SPEC.lut()
    known = [*range(151), 255]
    unknown = np.delete(lut, known)
    return [
        compare("all values", [shifted[value] for value in range(256)], table),
        compare("ade20k", lut[known], np.array(table)[known]),
        compare("no class of ade20k", unknown, np.full(len(unknown), UNKNOWN)),
    ]


def check_classes(fixture: Fixture) -> list[Row]:
    """Names, colours and ignore label of a data set."""
    header = fixture.header
    names = [name.strip() for name in header["classes" if "classes" in header else "names"]]
    spec = next((each for each in SPECS if each.num_classes == len(names)), None)
    if spec is None:
        raise CannotRun(f"classes: no data set has {len(names)} classes")
    rows = [
        same("names", list(spec.class_names), names),
        compare("palette", spec.palette, header["palette"]),
    ]
    if "ignore_index" in header:
        rows.append(compare("ignore label", spec.ignore_label, header["ignore_index"]))
    return rows


CHECKS = (
    Check(
        "mmseg crops",
        lambda fixture: "boxes_drawn_y1_y2_x1_x2" in first_case(fixture),
        check_random_crop,
    ),
    Check(
        "mmseg photometric",
        lambda fixture: "draws" in first_case(fixture) and "parameters" in first_case(fixture),
        check_photometric,
        {"tolerance": "in words"},
    ),
    Check(
        "mmseg training pipeline",
        lambda fixture: STEPS in first_case(fixture),
        check_train_pipeline,
        {"tolerance": "in words"},
    ),
    Check(
        "mmseg sizes",
        lambda fixture: "rows" in fixture.header and "columns" not in fixture.header,
        check_rescale,
    ),
    Check("mmseg zero label", lambda fixture: "table" in fixture.header, check_zero_label),
    Check(
        "classes and colours",
        lambda fixture: "palette" in fixture.header,
        check_classes,
        {"train_images": "of the published list", "val_images": "of the published list"},
    ),
)
