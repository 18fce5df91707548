# SPDX-License-Identifier: Apache-2.0
"""Worker processes and what they inherit."""

from __future__ import annotations

import gc
import multiprocessing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from runtime.worker import set_up


class Garbage:
    """Holds on to itself, so that only the garbage collector frees it."""

    def __init__(self, content: object) -> None:
        self.content, self.itself = content, self


def collect_all() -> None:
    """A worker process whose garbage collector runs."""
    set_up()
    gc.collect()


def test_a_worker_leaves_the_garbage_of_its_main_process_alone(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        writer = av.open(tmp_path / "clip.mp4", "w")
        stream = writer.add_stream("h264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), "rgb24")
        writer.mux(stream.encode(frame))  # starts the encoder's threads
        Garbage((writer, stream))
        del writer, stream
        process = multiprocessing.get_context("fork").Process(target=collect_all)
        process.start()
        process.join(timeout=20)
        code = process.exitcode
        process.kill()
    finally:
        gc.enable()
    assert code == 0  # None: it hung
