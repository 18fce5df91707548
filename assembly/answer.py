# SPDX-License-Identifier: Apache-2.0
"""What a network says about images in memory; importing this module must not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One image and what was predicted for it; all arrays are on the host.

    image: uint8 (H, W, 3) RGB, of the size of the prediction. ids: train ids (H, W), uint8 or
    uint16. confidence: largest probability (H, W) float32 in 0..1, None where the network gives
    ids alone. scores: (K, H, W) float32 whose softmax are the class probabilities, None unless
    they were wanted.
    """

    image: Picture
    ids: npt.NDArray[Any]
    confidence: npt.NDArray[np.float32] | None = None
    scores: npt.NDArray[np.float32] | None = None
