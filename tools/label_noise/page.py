# SPDX-License-Identifier: Apache-2.0
"""The ranked regions as one page: image, label and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datasets.decode import read_item_image
from datasets.spec import DatasetSpec
from reports.files import jpeg_link
from reports.image_dump import composite
from reports.render import write_html
from tools.label_noise.predictions import Predictions
from tools.label_noise.regions import Region

AROUND = 0.6  # of the longer side of a region, that is shown on each side of it
LEAST_AROUND, LEAST_SIDE = 16, 240  # pixels of the image, and of a picture
LONGEST = 480  # pixels of a picture
BLACK, WHITE = (0, 0, 0), (255, 255, 255)

Pixels = npt.NDArray[np.uint8]


def window(region: Region, size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns around a region, inside an image of `size` (H, W)."""
    left, top, width, height = region.box
    more = max(round(AROUND * max(width, height)), LEAST_AROUND)
    rows = slice(max(top - more, 0), min(top + height + more, size[0]))
    return rows, slice(max(left - more, 0), min(left + width + more, size[1]))


def outlined(pixels: Pixels, region: Region, place: tuple[slice, slice]) -> Pixels:
    """The part `place` of an image, small ones enlarged, with the outline of the region."""
    part = pixels[place]
    factor = max(1, -(-LEAST_SIDE // max(part.shape[:2])))
    scaled = _enlarged(part, factor)
    mask = np.zeros(part.shape[:2], np.uint8)
    top, left = region.top - place[0].start, region.left - place[1].start
    height, width = region.mask.shape
    mask[top : top + height, left : left + width] = region.mask
    lines, _ = cv2.findContours(_enlarged(mask, factor), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thick = max(1, max(scaled.shape[:2]) // 160)
    for color, width in ((BLACK, 3 * thick), (WHITE, thick)):
        cv2.drawContours(scaled, lines, -1, color, width)
    return scaled


def _enlarged(pixels: Pixels, factor: int) -> Pixels:
    return np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1))


def pictures(
    regions: Sequence[Region], predictions: Predictions
) -> dict[int, list[tuple[str, str]]]:
    """Kind and data link of the pictures of every region, by its place; each image is read once."""
    spec = predictions.spec
    palette = spec.flat_palette()
    found: dict[int, list[tuple[str, str]]] = {}
    for number in sorted({region.image for region in regions}):
        predicted = predictions.images[number]
        image, answer = read_item_image(predicted.item), predicted.read(spec)
        shown = {
            "image": image,
            "label": composite(image, answer.label, palette),
            "prediction": composite(image, answer.pred, palette),
        }
        for rank, region in enumerate(regions):
            if region.image == number:
                place = window(region, answer.label.shape)
                found[rank] = [
                    (kind, jpeg_link(outlined(pixels, region, place), LONGEST))
                    for kind, pixels in shown.items()
                ]
    return found


def _color(spec: DatasetSpec, number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*spec.palette[number])


def _pairs(regions: Sequence[Region], spec: DatasetSpec) -> list[dict[str, Any]]:
    """How much of each pair of classes there is, most of the score first."""
    sums: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
    for region in regions:
        key = region.label, region.predicted
        sums[key] = sums.get(key, np.zeros(3)) + (1, region.area, region.score)
    return [
        {
            "label": spec.class_names[label],
            "predicted": spec.class_names[predicted],
            "numbers": [(f"{value:,.0f}", value) for value in values.tolist()],
        }
        for (label, predicted), values in sorted(sums.items(), key=lambda row: -row[1][2])
    ]


def write_page(path: Path, regions: Sequence[Region], predictions: Predictions, shown: int) -> None:
    """The page about `regions`, of which the first `shown` have pictures."""
    spec, first = predictions.spec, regions[:shown]
    drawn = pictures(first, predictions)
    figures = [
        (f"{len(regions):,}", "regions where labels and confident predictions disagree"),
        (f"{len({region.image for region in regions}):,}", "images have such regions"),
        (f"{len(predictions.images):,}", "images were predicted"),
        (f"{len(first):,}", "regions are shown"),
    ]
    write_html(
        path,
        "label_noise.html.j2",
        title=f"Label noise of {spec.name}",
        subtitle="Regions that networks which did not see the image contradict with confidence",
        figures=[{"value": value, "label": label} for value, label in figures],
        notes=predictions.notes,
        pairs=_pairs(regions, spec),
        regions=[
            {
                "name": predictions.images[region.image].item.name,
                "file": str(predictions.images[region.image].item.image.absolute()),
                "label": spec.class_names[region.label],
                "predicted": spec.class_names[region.predicted],
                "label_color": _color(spec, region.label),
                "predicted_color": _color(spec, region.predicted),
                "score": f"{region.score:,.0f}",
                "facts": facts_of(region),
                "pictures": drawn[rank],
            }
            for rank, region in enumerate(first)
        ],
    )


def facts_of(region: Region) -> str:
    """The numbers behind a score."""
    left, top, width, height = region.box
    return (
        f"{100 * region.confidence:.0f} % predicted, {100 * region.given:.1f} % labelled; "
        f"{region.area:,} px at {left}, {top} ({width} x {height}), "
        f"{100 * region.share:.0f} % of an object"
    )
