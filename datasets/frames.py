# SPDX-License-Identifier: Apache-2.0
"""The frames of a video as batches, decoded by a thread while the network is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import numpy as np

from datasets.batch import Batch
from datasets.loader import collate
from datasets.video import Video, VideoDamage
from transforms.sample import Sample, Transform

AHEAD = 2  # batches that are kept ready
LOOK_SECONDS = 0.2  # between two looks at whether anybody still waits for them


def frame_name(name: str, number: int) -> str:
    """The name of a frame, counted from 0, in the folder of its video."""
    return f"{name}/{number:06d}"


class FrameLoader:
    """Batches of `batch_size` frames of `video` in order, transformed as images are.

    name: of the video. Where it is damaged, the last batch says so in `failed`. Can be iterated
    again.
    """

    def __init__(
        self,
        video: Video,
        name: str,
        transform: Transform,
        batch_size: int = 1,
    ) -> None:
        self.video, self.name, self.transform = video, name, transform
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Batch]:
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()
        thread = threading.Thread(target=self._fill, args=(ready, stop), daemon=True)
        thread.start()
        try:
            while (batch := ready.get()) is not None:
                if isinstance(batch, BaseException):
                    raise batch
                yield batch
        finally:
            stop.set()
            thread.join()

    def _fill(
        self, ready: queue.Queue[Batch | BaseException | None], stop: threading.Event
    ) -> None:
        """Put every batch, then None; an error takes the place of its batch."""

        def put(entry: Batch | BaseException | None) -> bool:
            while not stop.is_set():
                try:
                    ready.put(entry, timeout=LOOK_SECONDS)
                except queue.Full:
                    continue
                return True
            return False

        try:
            for batch in self._batches():
                if not put(batch):
                    return
        except BaseException as error:  # told to the thread that waits, whatever it is
            put(error)
        put(None)

    def _batches(self) -> Iterator[Batch]:
        samples: list[Sample] = []
        number = 0
        try:
            for frame in self.video:
                sample = Sample(image=frame, label=None, name=frame_name(self.name, number))
                samples.append(self.transform(sample, np.random.default_rng(0)))
                number += 1
                if len(samples) == self.batch_size:
                    yield self._batch(samples, number)
                    samples = []
        except VideoDamage as damage:
            if samples:
                yield self._batch(samples, number)
            broken = collate([])
            broken.failed = [(self.name, str(damage))]
            yield broken
            return
        if samples:
            yield self._batch(samples, number)

    def _batch(self, samples: list[Sample], end: int) -> Batch:
        numbers = range(end - len(samples), end)
        batch = collate(samples, numbers)
        batch.files = [f"{self.video.path}, frame {number}" for number in numbers]
        return batch
