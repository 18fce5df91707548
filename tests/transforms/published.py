# SPDX-License-Identifier: Apache-2.0
"""Published transforms that hiseg does otherwise, for the numbers that were recorded with them."""

from __future__ import annotations

import numpy as np

from transforms.joint import CenterCropPad, show
from transforms.resample import Window
from transforms.sample import Sample


class OffCentreCropPad(CenterCropPad):
    """The published arithmetic of the validation square.

    It pads by the full missing amount on both sides but places the crop by the unpadded size: a
    short axis shows the image one and a half times the missing amount late, the part before the
    padding black and of class 0.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        starts = [round((side - self.size) / 2) for side in sample.size]
        pads = [max(self.size - side, 0) for side in sample.size]
        window = Window(
            scaled=sample.size,
            top=starts[0] - pads[0],
            left=starts[1] - pads[1],
            height=self.size,
            width=self.size,
        )
        shown = show(sample, window, self.ignore_label)
        if shown.label is not None:
            shown.label[: max(-starts[0], 0)] = 0
            shown.label[:, : max(-starts[1], 0)] = 0
        return shown
