# SPDX-License-Identifier: Apache-2.0
"""Network inputs and back."""

from __future__ import annotations

import numpy as np
import torch

from tests.transforms.drawings import noise
from transforms.normalize import MEAN, STD, denormalize, to_network, to_tensor


def test_to_tensor_is_scaling_to_one_then_mean_and_deviation():
    image = noise().image
    tensor = to_tensor(image)
    want = (image / 255 - np.array(MEAN)) / np.array(STD)
    assert tensor.dtype == torch.float32 and tensor.is_contiguous()
    assert torch.allclose(tensor, torch.from_numpy(want.transpose(2, 0, 1)).float(), atol=1e-6)


def test_denormalize_gives_every_grey_level_back():
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    assert np.array_equal(denormalize(to_tensor(image)), image)


def test_denormalize_clips_what_no_image_has():
    assert denormalize(torch.full((3, 2, 2), 99.0)).max() == 255
    assert denormalize(torch.full((3, 2, 2), -99.0)).min() == 0


def test_a_batch_on_its_device_gives_the_same_bits():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    batch = to_network(torch.from_numpy(pictures))
    assert batch.is_contiguous()
    for image, picture in zip(batch, pictures, strict=True):
        assert torch.equal(image, to_tensor(picture))
