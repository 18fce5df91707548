# SPDX-License-Identifier: Apache-2.0
"""The ranked regions as files for other programs: annotations as COCO has them, and a skip list.

The JSON file is a data set in COCO's format, which CVAT, FiftyOne, importers of Label Studio and
Roboflow, and `python -m datasets.convert` read. Each region is an annotation of the predicted
class; `score` and `attributes` say the rest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from skimage import measure

from datasets.spec import DatasetSpec
from tools.label_noise.predictions import Predicted
from tools.label_noise.regions import Region

TOLERANCE = 0.3  # pixels that a corner of a polygon may move: the centres of pixels stay inside


def polygons(region: Region) -> list[list[float]]:
    """Outlines x, y, x, y, ... in pixels of the image; holes are filled.

    They run between the centres of pixels inside and outside, so a pixel belongs to the region if
    its centre does.
    """
    found = []
    mask = np.pad(region.mask, 1).astype(np.uint8)
    for line in measure.find_contours(mask, 0.5, fully_connected="high"):
        points = line[:-1, ::-1].astype(np.float32)  # closed: the last one is the first
        if cv2.contourArea(points, oriented=True) < 0:  # a hole
            continue
        corners = cv2.approxPolyDP(points[:, None], TOLERANCE, closed=True)[:, 0]
        corners = corners + (region.left - 0.5, region.top - 0.5)
        found.append([round(float(value), 2) for value in corners.ravel()])
    return found


def coco(
    regions: Sequence[Region],
    images: Sequence[Predicted],
    sizes: Sequence[tuple[int, int]],
    spec: DatasetSpec,
) -> bytes:
    """The JSON file about `regions`, the worst first; sizes: (H, W) of all images.

    Files are named from the folder that holds all of them, `info.folder`.
    """
    used = sorted({region.image for region in regions})
    paths = {number: os.path.abspath(images[number].item.image) for number in used}
    folder = os.path.commonpath([os.path.dirname(path) for path in paths.values()] or [os.curdir])
    content = {
        "info": {"description": f"label noise of {spec.name}", "folder": folder},
        "images": [
            {
                "id": number + 1,
                "file_name": os.path.relpath(paths[number], folder),
                "height": sizes[number][0],
                "width": sizes[number][1],
            }
            for number in used
        ],
        "categories": [
            {"id": number + 1, "name": name} for number, name in enumerate(spec.class_names)
        ],
        "annotations": [_annotation(rank, region, spec) for rank, region in enumerate(regions, 1)],
    }
    return json.dumps(content).encode()


def _annotation(rank: int, region: Region, spec: DatasetSpec) -> dict[str, Any]:
    return {
        "id": rank,
        "image_id": region.image + 1,
        "category_id": region.predicted + 1,
        "segmentation": polygons(region),
        "bbox": list(region.box),
        "area": region.area,
        "iscrowd": 0,
        "score": round(region.score, 3),
        "attributes": {
            "rank": rank,
            "labelled": spec.class_names[region.label],
            "predicted": spec.class_names[region.predicted],
            "p_labelled": round(region.given, 4),
            "p_predicted": round(region.confidence, 4),
            "share": round(region.share, 4),
        },
    }


def skip_list(regions: Sequence[Region], images: Sequence[Predicted], spec: DatasetSpec) -> bytes:
    """The images of `regions`, each once, the worst first, with the reasons as remarks."""
    lines, named = [], set()
    for rank, region in enumerate(regions, 1):
        if region.image in named:
            continue
        named.add(region.image)
        label, predicted = spec.class_names[region.label], spec.class_names[region.predicted]
        remark = f"# {rank}: {label} is predicted as {predicted}, score {region.score:.0f}"
        lines.append(" ".join(remark.split()))
        lines.append(os.path.abspath(images[region.image].item.image))
    return os.fsencode("\n".join([*lines, ""]))
