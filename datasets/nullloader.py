# SPDX-License-Identifier: Apache-2.0
"""Black images of the crop size, made in memory: how fast is the network when nothing is read?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from datasets import cityscapes
from datasets.samplers import Draw
from datasets.spec import Item
from transforms.sample import Sample

NUM_IMAGES = 3000
SPEC = cityscapes.SPEC


def list_items(count: int = NUM_IMAGES) -> list[Item]:
    """Items without files; `NullDataset` needs only their names."""
    return [Item(name=f"null_{number:04d}", image=Path(), label=None) for number in range(count)]


class NullDataset(Dataset[Sample]):
    """`items` as black images of `size` (H, W) whose every pixel is class 0."""

    def __init__(self, items: list[Item], size: tuple[int, int]) -> None:
        self.items, self.size = items, size

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, draw: int | Draw) -> Sample:
        """The black sample with this index."""
        item = self.items[draw.index if isinstance(draw, Draw) else draw]
        image, label = np.zeros((*self.size, 3), np.uint8), np.zeros(self.size, np.uint8)
        return Sample(image=image, label=label, name=item.name)
