# SPDX-License-Identifier: Apache-2.0
"""Scores of a classifier, where images are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from config import UserError
from datasets.classify import eval_loader
from datasets.imagenet import ImageList, list_classes, list_split
from engine.classify import ClassSummary, evaluate_classifier
from engine.compute import Compute
from tests.class_folders import break_image, write_class_folders
from transforms.imagenet import eval_transform


class FirstClass(nn.Module):
    """Says the first of two classes whatever it sees."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"pred": torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)}


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    """One image of the first class, two of the second."""
    root = write_class_folders(tmp_path, size=24, train=2, val=1, classes=2)
    (root / "train" / "n00000000" / "n00000000_1.JPEG").unlink()
    return list_split(root, "train", list_classes(root, "train"))


def scored(images: ImageList) -> ClassSummary:
    loader = eval_loader(images, eval_transform(16, 0.9, "bicubic"), 0, 1, 2, 0)
    return evaluate_classifier(FirstClass(), loader, 2, Compute(device=torch.device("cpu")))


def test_unreadable_images_are_in_no_score_but_in_the_list(images: ImageList) -> None:
    assert scored(images).scores.top1 == pytest.approx(1 / 3)
    broken = break_image(images.path(1))
    summary = scored(images)
    assert (summary.num_images, summary.scores.top1) == (2, 0.5)
    assert len(summary.unreadable) == 1 and str(broken) in summary.unreadable[0]


def test_scores_of_no_image_at_all_are_an_error(images: ImageList) -> None:
    for index in range(len(images)):
        break_image(images.path(index))
    with pytest.raises(UserError, match=r"none of the 3 images could be .*_0\.JPEG") as error:
        scored(images)
    assert "\n" not in str(error.value)
