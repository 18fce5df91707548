# SPDX-License-Identifier: Apache-2.0
"""A video of predictions: every frame under the colours of its classes, and files of each frame."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datasets.spec import DatasetSpec
from metrics.result import Gather, ImageResult
from reports.image_dump import composite
from reports.rawids import to_size
from reports.sinks import EveryImageSink
from reports.trees import TreeWriter, class_counts
from reports.video_writer import VideoWriter
from runtime.errors import UserError
from runtime.files import is_fatal

PENDING_FRAMES = 4  # that may wait for the encoder


class VideoUnwritten(UserError):
    """The video of predictions cannot be written; the message names it."""


@dataclass(kw_only=True)
class VideoFacts:
    """What is known of a predicted video: frames, pixels of each class, sum of confidences."""

    frames: int = 0
    pixels: dict[int, int]
    confidence: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Frames, shares of the classes by id, and mean confidence, in JSON types."""
        total = max(sum(self.pixels.values()), 1)
        shares = {str(key): round(self.pixels[key] / total, 6) for key in sorted(self.pixels)}
        mean = round(self.confidence / max(self.frames, 1), 6)
        return {"frames": self.frames, "classes": shares, "confidence": mean}


class VideoSink(EveryImageSink):
    """Takes the frames of one video in order and writes them to `path`, at `fps` and `size` (H, W).

    `trees` also gets every frame. A thread draws and encodes while the network goes on.
    """

    def __init__(
        self,
        path: Path,
        spec: DatasetSpec,
        fps: Fraction,
        size: tuple[int, int],
        trees: TreeWriter | None = None,
    ) -> None:
        self.path, self.spec, self.size, self.trees = path, spec, size, trees
        self.palette = spec.flat_palette()
        self.facts = VideoFacts(pixels={})
        self._writer = VideoWriter(path, fps, size)
        self._thread = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    @property
    def needs(self) -> frozenset[str]:
        own = frozenset({"image", "confidence"})
        return own if self.trees is None else own | self.trees.plan.needs

    def add(self, result: ImageResult) -> None:
        """Append a frame; VideoUnwritten if that failed, OSError for a full disk."""
        self.facts.frames += 1
        assert result.confidence is not None
        self.facts.confidence += result.confidence
        self._pending.append(self._thread.submit(self._encode, result))
        self._wait(PENDING_FRAMES)
        if self.trees is not None:
            files = self.trees.files(result.name)
            self.trees.submit(result, files, self.size, None)

    def _encode(self, result: ImageResult) -> None:
        assert result.image is not None
        pred = to_size(result.pred, self.size, result.name)
        image = result.image
        if image.shape[:2] != self.size:
            image = _resized(image, self.size)
        for number, count in class_counts(pred).items():
            self.facts.pixels[number] = self.facts.pixels.get(number, 0) + count
        self._writer.add(composite(image, pred, self.palette))

    def _wait(self, count: int) -> None:
        """Wait until at most `count` frames are pending."""
        while len(self._pending) > count:
            try:
                self._pending.popleft().result()
            except OSError as error:
                if is_fatal(error):
                    raise
                raise VideoUnwritten(f"{self.path}: {error.strerror or error}") from error

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Finish the file."""
        self._wait(0)
        self._thread.shutdown()
        try:
            self._writer.close()
        except OSError as error:
            if is_fatal(error):
                raise
            raise VideoUnwritten(f"{self.path}: {error.strerror or error}") from error

    def discard(self) -> None:
        """Remove what has been written of the video."""
        self._thread.shutdown(cancel_futures=True)
        self._writer.discard()


def _resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
