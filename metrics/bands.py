# SPDX-License-Identifier: Apache-2.0
"""Scores of the four height bands of an image: Upper, Mid 1, Mid 2 and Lower.

Rows are cut at q, 2q and 3q with q = H // 4, so the last band also holds the remainder.

Source: Choi, Kim, Choo, "Cars Can't Fly up in the Sky" (HANet), CVPR 2020, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.confusion import Scores, confusion_matrix

BANDS = {"upper": "Upper", "mid1": "Mid 1", "mid2": "Mid 2", "lower": "Lower"}  # key -> title


def band_slices(height: int) -> list[slice]:
    """Rows of the four bands, from the top; together all `height` rows."""
    quarter = height // 4
    cuts = [0, quarter, 2 * quarter, 3 * quarter, height]
    return [slice(cuts[band], cuts[band + 1]) for band in range(len(BANDS))]


def band_confusion(
    pred: Tensor, label: Tensor, num_classes: int, ignore_label: int | None = None
) -> Tensor:
    """Confusion matrices of one image, one per band: (H, W) twice -> (4, K, K) int64.

    Their sum is the matrix of the image. Raises ValueError like `confusion_matrix`.
    """
    if pred.shape != label.shape:
        raise ValueError(f"prediction {tuple(pred.shape)} and label {tuple(label.shape)} differ")
    parts = band_slices(pred.shape[0])
    return torch.stack(
        [confusion_matrix(pred[part], label[part], num_classes, ignore_label) for part in parts]
    )


def band_scores(matrices: Tensor, class_names: tuple[str, ...]) -> dict[str, Scores]:
    """Scores of each band by key, from summed matrices (4, K, K)."""
    return {key: Scores.of(matrices[band], class_names) for band, key in enumerate(BANDS)}


def bands_table(scores: dict[str, Scores]) -> str:
    """One line per band, values in percent."""
    head = ("mean_iu", "acc", "acc_cls", "fwavacc")
    lines = ["band    " + "".join(f"{name:>10}" for name in head)]
    for key, own in scores.items():
        values = "".join(f"{100 * getattr(own, name):>10.2f}" for name in head)
        lines.append(f"{BANDS[key]:<8}{values}")
    return "\n".join(lines)
