# SPDX-License-Identifier: Apache-2.0
"""Mean and standard deviation of the inputs, and the inverse for reports."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from runtime.normalisation import IMAGENET

MEAN, STD = IMAGENET  # RGB, for values 0..1

_SCALE = np.array([1 / (255 * std) for std in STD], np.float32)
_SHIFT = np.array([-mean / std for mean, std in zip(MEAN, STD, strict=True)], np.float32)


def to_tensor(image: np.ndarray, valid: tuple[int, int] | None = None) -> torch.Tensor:
    """Network input of one image: uint8 (H, W, 3) RGB -> float32 (3, H, W), normalised.

    valid: (H, W) of the image in the top left corner; all else is padding and becomes zero.
    """
    out = np.empty((3, *image.shape[:2]), np.float32)
    for channel, plane in enumerate(cv2.split(image)):
        np.multiply(plane, _SCALE[channel], out=out[channel])
        out[channel] += _SHIFT[channel]
    if valid is not None:
        out[:, valid[0] :] = 0
        out[:, :, valid[1] :] = 0
    return torch.from_numpy(out)


def to_network(images: torch.Tensor) -> torch.Tensor:
    """`to_tensor` of a batch, on its own device: uint8 (B, H, W, 3) -> float32 (B, 3, H, W)."""
    out = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    scale, shift = (each.to(out.device, non_blocking=True) for each in scale_and_shift())
    return out.mul_(scale).add_(shift)


def scale_and_shift() -> tuple[torch.Tensor, torch.Tensor]:
    """What values 0..255 are multiplied by, and what is added then: (3, 1, 1) float32 each."""
    scale, shift = (torch.from_numpy(x.copy()).view(3, 1, 1) for x in (_SCALE, _SHIFT))
    return scale, shift


def denormalize(tensor: torch.Tensor) -> np.ndarray:
    """The image behind a network input: float (3, H, W) -> uint8 (H, W, 3) RGB, rounded."""
    values = tensor.detach().to("cpu", torch.float32).numpy().transpose(1, 2, 0)
    grey = values * (np.array(STD, np.float32) * 255) + np.array(MEAN, np.float32) * 255
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
