# SPDX-License-Identifier: Apache-2.0
"""Row positions reach the network in training and in every inference, and say the truth.

The images show where their rows lie: green grows with the height in the file. A network that
only looks finds the positions it is given in the pixels it is given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from datasets import folder
from datasets.base import SegmentationDataset
from datasets.batch import Batch
from datasets.loader import make_loader
from datasets.spec import Item
from engine.compute import Compute
from engine.evaluate import evaluate
from engine.predict import Beside, Infer, flip, multi_scale, slide, whole
from engine.windows_hanet import hanet_pooling, hanet_sliding
from tests.reports.cases import SPEC
from transforms.normalize import MEAN, STD
from transforms.pipeline import train_pipeline

LOW, HIGH = 20, 250
SIZES = ((60, 90), (60, 90), (81, 61))


class Looks(nn.Module):
    """Compares the rows it is given with what the image shows, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        assert rows is not None and rows.shape == (len(images), images.shape[2])
        level = (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
        green, blue = level[:, 1], level[:, 2]
        shown = (blue > 64).float()  # padding is black
        is_picture = shown.amax(2) > 0
        mean = (green * shown).sum(2) / shown.sum(2).clamp(min=1)
        error = (mean - (LOW + (HIGH - LOW) * rows)).abs()
        assert torch.equal(is_picture, rows >= 0)
        self.seen.append(float((error * is_picture).max()))
        return {"pred": images}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three sizes with a label each."""
    directory = tmp_path_factory.mktemp("ramps")
    for index, (height, width) in enumerate(SIZES):
        image = np.full((height, width, 3), 128, np.uint8)
        centres = (np.arange(height) + 0.5) / height
        image[..., 1] = np.rint(LOW + (HIGH - LOW) * centres)[:, None]
        Image.fromarray(image).save(directory / f"{index}.png")
    (directory / "labels").mkdir()
    for index, size in enumerate(SIZES):
        Image.fromarray(np.full(size, 7, np.uint8)).save(directory / "labels" / f"{index}.png")
    return directory


def test_training_batches(root: Path) -> None:
    items = [
        Item(name=str(k), image=root / f"{k}.png", label=root / "labels" / f"{k}.png")
        for k in range(len(SIZES))
    ]
    transform = train_pipeline(crop_size=(48, 64), ignore_label=255, color_aug=0.0)
    dataset = SegmentationDataset(items * 8, SPEC, transform)
    net = Looks()
    for batch in make_loader(dataset, range(len(dataset)), 2, 0):
        net(batch.network_input("cpu"), batch.rows)
    assert len(net.seen) == 12 and max(net.seen) < 6


def procedures(net: nn.Module) -> dict[str, Infer]:
    one = whole(net)
    return {
        "whole": one,
        "flip and scales": flip(multi_scale(one, (0.5, 1.0, 2.0))),
        "windows": slide(one, (24, 32), (17, 20)),
        "windows at scales": multi_scale(slide(one, (24, 32), (17, 20)), (1.0, 1.5)),
        "HANet's windows": hanet_sliding(one, (0.5, 1.0, 1.75), tile=(32, 32), batch_windows=3),
        "HANet's whole": hanet_pooling(one, (0.5, 1.0, 1.75)),
        "beside": Beside(one, lambda images, rows: {} if net(images, rows) else {}),
    }


@pytest.mark.parametrize("name", list(procedures(Looks())))
def test_inference_over_a_folder(root: Path, name: str) -> None:
    net = Looks().eval()
    items = [item for item in folder.list_items(root) if "labels" not in item.name]
    dataset = SegmentationDataset(items, SPEC)
    loader: list[Batch] = list(make_loader(dataset, range(len(items)), 1, 0))
    summary = evaluate(procedures(net)[name], loader, SPEC, Compute(device=torch.device("cpu")))
    assert summary.num_images == len(SIZES)
    assert len(net.seen) >= len(SIZES) and max(net.seen) < 6
