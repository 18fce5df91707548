# SPDX-License-Identifier: Apache-2.0
"""Items as samples, the same for every data set; they are read in `headers`, `decode` and `ids`.

Whatever is wrong with a file is a `DataError`: one line that names the file and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch.utils.data import Dataset

from datasets.decode import Picture, read_image, read_item_image
from datasets.headers import DataError, image_size, item_size, label_size, read_header, size_text
from datasets.ids import (
    ids_in_use,
    is_binary,
    map_ids,
    read_ids,
    read_item_label,
    read_label,
    unknown_ids,
    unknown_ids_text,
)
from datasets.samplers import Draw
from datasets.spec import DatasetSpec, Item
from transforms.sample import Sample, Transform

__all__ = [
    "DataError",
    "ExtraMaps",
    "Picture",
    "SegmentationDataset",
    "ids_in_use",
    "image_size",
    "is_binary",
    "item_size",
    "label_size",
    "map_ids",
    "mismatch_text",
    "read_ids",
    "read_image",
    "read_item_image",
    "read_item_label",
    "read_label",
    "size_text",
    "unknown_ids",
    "unknown_ids_text",
]

ExtraMaps = Callable[[Item, Picture], dict[str, np.ndarray]]


class SegmentationDataset(Dataset[Sample]):
    """Items read and transformed.

    transform: applied with the generator of the `Draw`, with a fixed one for a plain index.
    check_labels: False leaves labels unread (predictions without scores).
    extra_maps: makes more maps of the size of the label, for `Sample.extras`.
    """

    def __init__(
        self,
        items: Sequence[Item],
        spec: DatasetSpec,
        transform: Transform | None = None,
        check_labels: bool = True,
        extra_maps: ExtraMaps | None = None,
    ) -> None:
        self.items, self.spec = list(items), spec
        self.transform, self.check_labels = transform, check_labels
        self.extra_maps = extra_maps

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, centroid: tuple[int, int] | None = None) -> Sample:
        """One item before any transform; DataError when its files do not fit."""
        item = self.items[index]
        image = read_item_image(item)
        label = None
        if item.label is not None and self.check_labels:
            label = read_item_label(item, self.spec)
            if label.shape != image.shape[:2]:
                raise DataError(mismatch_text(item, image.shape[:2], label.shape[:2]))
        extras = {}
        if self.extra_maps is not None and label is not None:
            extras = self.extra_maps(item, label)
        return Sample(image=image, label=label, name=item.name, centroid=centroid, extras=extras)

    def __getitem__(self, draw: int | Draw) -> Sample:
        """The transformed sample, a pure function of `draw` and the files."""
        if isinstance(draw, Draw):
            sample, rng = self.read(draw.index, draw.centroid), draw.generator()
        else:
            sample, rng = self.read(draw), np.random.default_rng(draw)
        return sample if self.transform is None else self.transform(sample, rng)


def mismatch_text(item: Item, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    """The one line about a label of another size; sizes are (H, W)."""
    text = (
        f"{item.image} is {size_text(image[0], image[1])}, but its label {item.label} is "
        f"{size_text(label[0], label[1])} (width x height)"
    )
    return text + _orientation_text(item, (label[0], label[1]))


def _orientation_text(item: Item, label: tuple[int, int]) -> str:
    """What the orientation of the image has to do with a label of another size."""
    try:
        header = read_header(item.image, "image")
    except DataError:
        return ""
    if item.turned and header.size(turned=False) == label != header.size(turned=True):
        return (
            f"; the image is turned by EXIF; the stored size fits (orientation "
            f"{header.orientation}): turn the label too, or set exif: ignore in the YAML of a "
            "custom set"
        )
    if not item.turned and header.size(turned=True) == label != header.size(turned=False):
        return (
            f"; turned by EXIF (orientation {header.orientation}) the image would fit: leave out "
            "exif: ignore"
        )
    return ""
