# SPDX-License-Identifier: Apache-2.0
"""HANet's windows: recorded places, counts, positions, batches; whole images of any size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from config import UserError
from engine.predict import without_rows
from engine.windows_hanet import (
    hanet_pooling,
    hanet_sliding,
    official_count,
    true_count,
    window_boxes,
)
from network.ops.rows import row_steps
from tests.parity.fixture import FIXTURES
from tests.parity.published import SizedPooling
from transforms.normalize import to_tensor
from transforms.sample import row_positions

RECORDED = json.loads((FIXTURES / "hanet" / "functions.json").read_text())["sliding_windows"]
CLASSES = 3


class Probe:
    """Scores from the pixels, their rows and their place; notes what it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.rows: list[Tensor] = []

    def __call__(self, images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        self.batches.append(len(images))
        weight = torch.tensor([[1.0, -1, 0.5], [0, 2, -1], [0.3, 0.3, 1]])
        scores = torch.einsum("kc,bchw->bkhw", weight, images)
        if rows is not None:
            self.rows += list(rows)
            scores = scores + rows[:, None, :, None]
        return {"pred": scores}


def picture(height: int, width: int) -> Tensor:
    levels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return to_tensor(levels)[None]


@pytest.mark.parametrize("case", RECORDED, ids=[str(n) for n in range(len(RECORDED))])
def test_boxes_and_row_bins_are_the_recorded_ones(case: dict) -> None:
    height, width = case["scaled"]
    side = int(case["crop_size"] * max(case["scale"], 1))
    boxes = window_boxes((height, width), (side, side), case["overlap"])
    assert [[b.left, b.top, b.right, b.bottom] for b in boxes] == case["boxes_x1y1x2y2"]
    rows = torch.from_numpy(row_positions(height))[None]
    bins = [(row_steps(rows[:, b.top : b.bottom], 16) // 8)[0].tolist() for b in boxes]
    assert bins == case["position_index_16"]


@pytest.mark.parametrize("size", [(24, 40), (41, 33), (7, 90), (16, 16)])
def test_windows_of_a_pixelwise_network_give_the_whole_answer(size: tuple[int, int]) -> None:
    image, probe = picture(*size), Probe()
    infer = hanet_sliding(probe, (1.0,), tile=(16, 16), overlap=0.4, flip=True, batch_windows=3)
    assert torch.allclose(infer(image, None)["pred"], probe(image)["pred"], atol=1e-5)


def test_batches_of_windows_give_the_result_of_one_at_a_time() -> None:
    image, rows = picture(40, 56), torch.from_numpy(row_positions(40))[None]
    results = []
    for batch_windows in (1, 5):
        probe = Probe()
        infer = hanet_sliding(probe, (0.5, 1.0), tile=(16, 16), batch_windows=batch_windows)
        results.append(infer(image, rows)["pred"])
        assert max(probe.batches) == batch_windows
    assert torch.equal(*results)


def test_windows_see_the_positions_of_their_rows_at_every_scale() -> None:
    image, rows, probe = picture(20, 20), torch.from_numpy(row_positions(20))[None], Probe()
    hanet_sliding(probe, (2.0,), tile=(10, 40), overlap=0, flip=False)(image, rows)
    assert [len(part) for part in probe.rows] == [20, 20]
    assert torch.allclose(torch.cat(probe.rows), torch.from_numpy(row_positions(40)), atol=1e-6)


def test_overlap_is_counted_truly_unless_the_published_count_is_asked_for() -> None:
    boxes = window_boxes((16, 24), (16, 16), 1 / 3)
    true = true_count(boxes, (16, 24))
    assert true[0, 0].tolist() == [1] * 8 + [2] * 3 + [2] * 5 + [1] * 8
    official = official_count(boxes, (16, 24), CLASSES)
    assert official.shape == (CLASSES, 16, 1)
    expected = [sum(b.left <= row < b.right for b in boxes) for row in range(16)]
    assert official[0, :, 0].tolist() == expected


def test_published_count_of_a_portrait_image_is_one_line() -> None:
    infer = hanet_sliding(Probe(), (1.0,), tile=(16, 16), official=True)
    with pytest.raises(UserError, match="--sliding_official divides by zero .* 20x30") as raised:
        infer(picture(30, 20), None)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [(17, 23), (64, 32)])
def test_whole_images_of_any_size_average_probabilities(size: tuple[int, int]) -> None:
    image, probe = picture(*size), Probe()
    scores = hanet_pooling(probe, (1.0,), flip=True)(image, None)["pred"]
    expected = probe(image)["pred"].log_softmax(1)
    assert torch.allclose(scores, expected, atol=1e-5)
    wide = SizedPooling(probe, (0.5, 2.0), (30, 50), flip=False)(image, None)["pred"]
    assert wide.shape == (1, CLASSES, 30, 50)
    assert torch.allclose(wide.exp().sum(1), torch.ones(1, 30, 50), atol=1e-5)


def test_images_of_a_batch_stay_apart() -> None:
    both = torch.cat([picture(20, 30), picture(20, 30).flip(-1)])
    infer = hanet_sliding(Probe(), (1.0,), tile=(16, 16), flip=False)
    together = infer(both, None)["pred"]
    assert torch.equal(together[:1], infer(both[:1], None)["pred"])
    assert torch.equal(together[1:], infer(both[1:], None)["pred"])


def test_a_network_without_positions_never_sees_rows() -> None:
    image, rows, probe = picture(20, 20), torch.from_numpy(row_positions(20))[None], Probe()
    hanet_sliding(without_rows(probe), (1.0,), tile=(16, 16))(image, rows)
    assert probe.batches and not probe.rows


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap 1 is outside"):
        hanet_sliding(Probe(), overlap=1.0)
    with pytest.raises(ValueError, match="positive numbers wanted"):
        hanet_pooling(Probe(), ())
