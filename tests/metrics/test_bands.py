# SPDX-License-Identifier: Apache-2.0
"""Scores of the height bands, against recorded values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from metrics.bands import BANDS, band_confusion, band_scores, band_slices, bands_table
from metrics.confusion import Scores, confusion_matrix
from tests.parity import recipe
from tests.parity.fixture import FIXTURES

RECORDED = json.loads((FIXTURES / "hanet" / "functions.json").read_text())["metrics"]


def drawn(case: dict) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and label as the fixture describes them."""
    size, classes, seed = (case["height"], case["width"]), case["num_classes"], case["seed"]
    label = recipe.label(*size, classes, seed)
    pred = recipe.label(*size, classes, seed + 1)
    pred[pred == 255] = 0
    keep = np.random.Generator(np.random.PCG64(seed)).uniform(size=size) < 0.6
    return np.where(keep & (label < classes), label, pred), label


@pytest.mark.parametrize("case", RECORDED, ids=["streets", "small"])
def test_whole_and_bands_have_the_recorded_scores(case: dict) -> None:
    pred, label = (torch.from_numpy(x) for x in drawn(case))
    names = tuple(map(str, range(case["num_classes"])))
    matrices = band_confusion(pred, label, len(names), ignore_label=255)
    found = {"whole": Scores.of(matrices.sum(0), names), **band_scores(matrices, names)}
    for band, values in case["values"].items():
        for name, value in values.items():
            assert getattr(found[band], name) == pytest.approx(value, abs=1e-12), (band, name)


def test_bands_add_up_to_the_image() -> None:
    pred, label = (torch.from_numpy(x) for x in drawn(RECORDED[1]))
    whole = confusion_matrix(pred, label, 5)
    assert torch.equal(band_confusion(pred, label, 5).sum(0), whole)


def test_last_band_holds_what_the_division_leaves() -> None:
    assert [part.stop - part.start for part in band_slices(50)] == [12, 12, 12, 14]
    assert [part.stop - part.start for part in band_slices(3)] == [0, 0, 0, 3]


def test_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        band_confusion(torch.zeros(4, 4), torch.zeros(8, 4), 2)


def test_table_names_every_band() -> None:
    matrices = torch.zeros(4, 2, 2, dtype=torch.int64)
    matrices[:, 0, 0] = 5
    lines = bands_table(band_scores(matrices, ("a", "b"))).splitlines()
    assert [line[:6].strip() for line in lines[1:]] == list(BANDS.values())
    assert "100.00" in lines[1]
