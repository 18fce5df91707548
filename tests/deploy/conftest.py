# SPDX-License-Identifier: Apache-2.0
"""A small trained-looking network, and photos as people have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.reports.conftest import chrome as chrome

if TYPE_CHECKING:
    from deploy import Predictor
    from deploy.server import PageServer


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three classes whose predictions vary over an image."""
    from network.contract import Network
    from tests.deploy.checkpoints import write_checkpoint
    from tests.network.tiny import tiny_net

    net = tiny_net(seed=3)
    assert isinstance(net, Network)
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.safetensors", net)


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    """The network of the checkpoint, for arrays and files."""
    from deploy import Predictor

    return Predictor(checkpoint)


@pytest.fixture(scope="module")
def server(predictor: Predictor) -> Iterator[PageServer]:
    """The page of the checkpoint, on a free port."""
    from tests.deploy.page_server import serving

    with serving(predictor) as found:
        yield found


def scene(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Smooth colours with edges, uint8 (H, W, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    pixels = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    pixels[height // 2 :, width // 3 : width // 2] = (200, 40, 90)
    return pixels


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images: turned by EXIF, grey, 16 bits, with alpha, odd sides, in a sub-folder."""
    root = tmp_path_factory.mktemp("my photos")
    (root / "sub folder").mkdir()
    Image.fromarray(scene(seed=1)).save(root / "plain.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(scene(seed=2)).save(root / "turned.jpg", exif=turned, quality=95)
    Image.fromarray(scene(seed=3)[..., 0]).save(root / "sub folder" / "grey.png")
    deep = scene(seed=4).astype(np.uint16) * 257
    cv2.imwrite(str(root / "deep.png"), deep)
    alpha = np.dstack([scene(seed=5), np.full((64, 96), 90, np.uint8)])
    Image.fromarray(alpha).save(root / "sub folder" / "alpha.png")
    Image.fromarray(scene(61, 97, seed=6)).save(root / "odd.jpg", quality=95)
    return root
