# SPDX-License-Identifier: Apache-2.0
"""What travels from the loader to the network: bytes up to the device, numbers there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from transforms.normalize import denormalize, to_network

Valid = tuple[int, int] | None  # (H, W) of an image in the top left corner, None: no padding


@dataclass(kw_only=True)
class Batch:
    """What evaluation and training get, and after `to` what networks and losses see.

    images: (B, H, W, 3) uint8 RGB from the loader; after `to`, and where a task changes numbers
    and not bytes, (B, 3, H, W) float32, normalised. labels: (B, H, W) train ids, uint8 from the
    loader (uint16 of more classes), int64 after `to`; None when an image of the batch has none;
    of a classifier (B,) classes, or mixed (B, K). indices: numbers of the
    items. rows: (B, H) float32 row positions. failed: (name, message) of files that could not be
    read; they are in no other field, so a batch may hold no image at all (B = 0). sizes: (H, W)
    that the predictions of each image are brought to, which is also that of its label; the size of
    `images` if left out. extras: (B, H, W) maps by name that every sample of the batch has.
    originals: uint8 (B, H, W, 3) at `sizes`, the images that `images` were resized from, None if
    they were not; they stay on the host. files: the paths of the images, if known. valid: of each
    image of bytes the part that is no padding; the network sees padding as zero.
    """

    images: Tensor
    labels: Tensor | None
    names: list[str]
    indices: list[int]
    rows: Tensor | None = None
    failed: list[tuple[str, str]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    extras: dict[str, Tensor] = field(default_factory=dict)
    originals: Tensor | None = None
    files: list[str] = field(default_factory=list)
    valid: list[Valid] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.sizes:
            height, width = self.images.shape[1:3] if self.holds_bytes else self.images.shape[-2:]
            self.sizes = [(height, width)] * len(self.names)

    @property
    def holds_bytes(self) -> bool:
        """Whether `images` are pixels, not yet the input of a network."""
        return self.images.dtype == torch.uint8

    @property
    def input_bytes(self) -> int:
        """Bytes of the images as the network sees them."""
        return self.images.numel() * (4 if self.holds_bytes else self.images.element_size())

    def _map(self, move: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            images=move(self.images),
            labels=None if self.labels is None else move(self.labels),
            rows=None if self.rows is None else move(self.rows),
            extras={name: move(values) for name, values in self.extras.items()},
        )

    def network_input(self, device: torch.device | str) -> Tensor:
        """`images` on `device` as a network takes them: (B, 3, H, W) float32, normalised."""
        images = self.images.to(device=device, non_blocking=True)
        if not self.holds_bytes:
            return images
        images = to_network(images)
        for image, valid in zip(images, self.valid or [None] * len(images), strict=True):
            if valid is not None:
                image[:, valid[0] :] = 0
                image[:, :, valid[1] :] = 0
        return images

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device` as networks and losses take it; bytes are converted there."""
        moved = self._map(lambda tensor: tensor.to(device=device, non_blocking=True))
        labels = moved.labels
        if labels is not None and labels.dtype in (torch.uint8, torch.uint16):
            labels = labels.to(torch.int64)
        return replace(moved, images=moved.network_input(device), labels=labels, valid=[])

    def shown(self, position: int) -> npt.NDArray[np.uint8]:
        """One image as uint8 (H, W, 3), of the size of its prediction."""
        if self.originals is not None:
            return self.originals[position].numpy()
        image = self.images[position]
        return image.cpu().numpy() if self.holds_bytes else denormalize(image)

    def keep(self, positions: Sequence[int]) -> Batch:
        """The images at `positions` alone."""
        chosen = list(positions)

        def rows_of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[chosen]

        return replace(
            self,
            images=self.images[chosen],
            labels=rows_of(self.labels),
            names=[self.names[position] for position in chosen],
            indices=[self.indices[position] for position in chosen],
            rows=rows_of(self.rows),
            sizes=[self.sizes[position] for position in chosen],
            extras={name: values[chosen] for name, values in self.extras.items()},
            originals=rows_of(self.originals),
            files=[self.files[position] for position in chosen] if self.files else [],
            valid=[self.valid[position] for position in chosen] if self.valid else [],
        )

    def share(self) -> None:
        """Move all tensors to shared memory, where other processes find them."""
        every = (self.images, self.labels, self.rows, self.originals, *self.extras.values())
        for tensor in every:
            if tensor is not None and tensor.numel():
                tensor.share_memory_()

    def pin_memory(self) -> Batch:
        """The batch in page-locked memory; called by the DataLoader."""
        return self._map(lambda tensor: tensor.pin_memory())
