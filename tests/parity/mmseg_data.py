# SPDX-License-Identifier: Apache-2.0
"""Recorded training pipeline, crops, distortion, sizes, label shift and classes of mmsegmentation.

The fixtures were drawn from NumPy's legacy global generator, whose calls `LegacyDraws` makes, so
the same seeds give the same parameters here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from datasets import ade20k, cityscapes
from datasets.spec import IGNORE, UNKNOWN, zero_label_ids
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare
from transforms.distortion import PhotometricDistortion, distort
from transforms.joint import HorizontalFlip
from transforms.mmseg import CornerPad, MixedCrop, RatioResize, aligned_size, keep_ratio_size
from transforms.normalize import to_tensor
from transforms.sample import Sample


class LegacyDraws:
    """`Draws` from `numpy.random.RandomState`, noting every call as the fixtures do."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.RandomState(seed)
        self.noted: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.noted.append(float(self._rng.uniform(a, b)))
        return self.noted[-1]

    def randint(self, a: int, b: int) -> int:
        self.noted.append(int(self._rng.randint(a, b + 1)))
        return int(self.noted[-1])


def sample_of(image: np.ndarray, label: np.ndarray) -> Sample:
    """A recorded picture, which is BGR."""
    return Sample(np.ascontiguousarray(image[..., ::-1]), label.astype(np.uint8), "recorded")


def crop_label(case: dict[str, Any]) -> np.ndarray:
    """The label that the crops of a case are judged by."""
    size = case["image_height"], case["image_width"]
    if isinstance(case["label"], dict):
        return recipe.label(*size, case["label"]["num_classes"], case["label"]["seed"])
    label = np.full(size, 2)
    label[:6, :6] = 1
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
        corners = np.reshape(draws.noted, (-1, 2))
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
    """Draws in order, and the pictures to the grey level."""
    rows = []
    image = np.ascontiguousarray(fixture.arrays["image"][..., ::-1])
    for number, case in enumerate(fixture.header["cases"]):
        draws = LegacyDraws(case["numpy_seed"])
        drawn = PhotometricDistortion().draw(draws)
        name = f"case {number}"
        rows.append(compare(f"{name}: draws", draws.noted, [value for *_, value in case["draws"]]))
        for key, want in case["parameters"].items():
            got = getattr(drawn, key)
            missing = float("nan")
            pair = [missing if value is None else value for value in (got, want)]
            rows.append(compare(f"{name}: {key}", *pair))
        picture = distort(image, drawn)[..., ::-1]
        rows.append(compare(name, picture, fixture.arrays[f"out_{number}"]))
    return rows


def check_train_pipeline(fixture: Fixture) -> list[Row]:
    """Size, mean and label sum after every step, and the network input at the end."""
    rows = []
    for case in fixture.header["cases"]:
        number = case["index"]
        draws = LegacyDraws(case["numpy_seed"])
        crop_size = tuple(case["crop_size_h_w"])
        resize = RatioResize(tuple(case["img_scale_w_h"]), tuple(case["ratio_range"]))
        sample = sample_of(fixture.arrays[f"image_{number}"], fixture.arrays[f"label_{number}"])
        box = resize.draw(draws)
        rows.append(compare(f"case {number}: box", box, case["scale_drawn_w_h"]))
        steps = {"Resize": (sample := resize.apply(sample, box))}
        crop = MixedCrop(crop_size, IGNORE)
        steps["RandomCrop"] = sample = crop.apply(sample, crop.draw(sample, draws))
        flip = HorizontalFlip()
        flipped = flip.draw(draws)
        rows.append(compare(f"case {number}: flip", flipped, case["flip"]))
        steps["RandomFlip"] = sample = flip.apply(sample, flipped)
        distortion = PhotometricDistortion()
        sample = distortion.apply(sample, distortion.draw(draws))
        steps["PhotoMetricDistortion"] = sample
        steps["Pad"] = sample = CornerPad(crop_size, IGNORE)(sample)
        tensor = to_tensor(sample.image, sample.valid).numpy()
        recorded = {name: facts for name, *facts in case["steps_name_shape_imagemean_labelsum"]}
        for name, after in steps.items():
            shape, mean, label_sum = recorded[name]
            got = tensor.mean() if name == "Pad" else after.image.mean()
            rows.append(compare(f"case {number}: size after {name}", after.size, shape))
            rows.append(compare(f"case {number}: mean after {name}", got, mean, atol=1e-5))
            rows.append(compare(f"case {number}: label after {name}", after.label.sum(), label_sum))
        want = fixture.arrays[f"out_image_{number}"]
        rows.append(compare(f"case {number}: input", tensor[:, ::2, ::2], want, atol=1e-5))
        rows.append(
            compare(f"case {number}: label", sample.label, fixture.arrays[f"out_label_{number}"])
        )
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
    """Names, colours and ignore label of Cityscapes."""
    header, spec = fixture.header, cityscapes.SPEC
    return [
        compare("names", tuple(header["classes"]) == spec.class_names, True),
        compare("palette", spec.palette, header["palette"]),
        compare("ignore label", spec.ignore_label, header["ignore_index"]),
    ]


CHECKS = {
    "random_crop": check_random_crop,
    "photometric": check_photometric,
    "train_pipeline": check_train_pipeline,
    "rescale": check_rescale,
    "zero_label": check_zero_label,
    "cityscapes_classes": check_classes,
}
