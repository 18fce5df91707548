# SPDX-License-Identifier: Apache-2.0
"""RGB frames as an MP4 file that players and browsers show."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from runtime.files import partial_name

if TYPE_CHECKING:  # imported where it is needed: most runs write no video
    from av.container import OutputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

ENCODERS = ("libx264", "mpeg4")  # the first that the library was built with
QUALITY = {"crf": "18", "preset": "veryfast"}  # of H.264: hardly any visible loss
BIT_RATE = 8_000_000  # of MPEG-4, which has no such scale
LONGEST_TICK = 65_535  # MPEG-4 counts time in units of at least 1/65535 s


class VideoWriter:
    """Writes frames of one size to `path` as they come, under a hidden name until `close`.

    fps: frames per second. size: (H, W); where a side is odd, colours are kept at full resolution,
    because those at half resolution need even sides. As a context manager it closes, or after an
    error removes what it has written. Raises OSError if the file cannot be written.
    """

    def __init__(self, path: Path, fps: Fraction | float, size: tuple[int, int]) -> None:
        self.path, self.size, self.frames = path, size, 0
        self.rate = Fraction(fps).limit_denominator(LONGEST_TICK)
        self._partial = partial_name(path)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close() if kind is None else self.discard()

    def add(self, picture: npt.NDArray[np.uint8]) -> None:
        """Append one frame, (H, W, 3) uint8 RGB."""
        from av import VideoFrame

        assert picture.shape == (*self.size, 3), (picture.shape, self.size)
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self.frames
        frame.time_base = 1 / self.rate
        with self._named():
            container, stream = self._open()
            container.mux(stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finish the file and give it its name; without any frame there is no file."""
        if self._container is None or self._stream is None:
            return
        try:
            with self._named():
                self._container.mux(self._stream.encode())
                self._container.close()
                os.replace(self._partial, self.path)
        except BaseException:
            self.discard()
            raise
        self._container = self._stream = None

    def discard(self) -> None:
        """Remove what has been written of the file."""
        if self._container is not None:
            container, self._container = self._container, None
            with contextlib.suppress(OSError):  # a full disk, which the caller knows of already
                container.close()
        self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Users do not know the hidden name, so that errors are about `path`."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _open(self) -> tuple[OutputContainer, VideoStream]:
        if self._container is not None and self._stream is not None:
            return self._container, self._stream
        import av

        self.path.parent.mkdir(parents=True, exist_ok=True)
        place, options = str(self._partial.absolute()), {"movflags": "faststart"}
        self._container = av.open(place, "w", format="mp4", options=options)
        name = next(name for name in ENCODERS if name in av.codecs_available)
        stream = self._container.add_stream(name, rate=self.rate)
        assert isinstance(stream, av.VideoStream)
        self._set_up(stream.codec_context, name)
        self._stream = stream
        return self._container, stream

    def _set_up(self, encoder: VideoCodecContext, name: str) -> None:
        """Size, colours and quality."""
        from av.video.reformatter import ColorRange, Colorspace

        encoder.height, encoder.width = self.size
        is_even = not (self.size[0] % 2 or self.size[1] % 2)
        encoder.pix_fmt = "yuv420p" if is_even or name != "libx264" else "yuv444p"
        encoder.time_base = 1 / self.rate
        # players guess from the size what is not said
        encoder.colorspace, encoder.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        if name == "libx264":
            encoder.options = dict(QUALITY)
        else:
            encoder.bit_rate = BIT_RATE
