# SPDX-License-Identifier: Apache-2.0
"""Predictions as the raw label ids of a data set, at the size of the image file."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datasets.spec import DatasetSpec
from runtime.errors import UserError


def to_raw_ids(pred: npt.NDArray[np.uint8], spec: DatasetSpec) -> npt.NDArray[Any]:
    """Train ids (H, W) -> raw ids (H, W) of `spec`, uint8, or uint16 where one is above 255."""
    return spec.inverse_lut()[pred]


def to_size(values: npt.NDArray[Any], size: tuple[int, int], name: str) -> npt.NDArray[Any]:
    """Resize (H, W) by nearest neighbour if the image was evaluated at another scale.

    UserError if the two do not have the same proportions: the image was cropped or padded.
    """
    height, width = values.shape
    if (height, width) == size:
        return values
    if abs(height * size[1] - width * size[0]) > max(height, width, *size):
        raise UserError(
            f"{name}: predicted at {width}x{height}, the file is {size[1]}x{size[0]}; "
            "evaluate whole images, without --map_crop_val"
        )
    resized = cv2.resize(values, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, values.dtype)
