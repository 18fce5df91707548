# SPDX-License-Identifier: Apache-2.0
"""Video files as upright uint8 RGB frames, in order, until their end or their first damage.

    video = open_video(path)        # DataError: missing, no video, without frames
    for frame in video:             # (H, W, 3) uint8 RGB; VideoDamage where the file is broken
        ...

Decoders hide damage by repeating what they have; here reading stops where they would begin to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.decode import Picture
from datasets.headers import DataError, size_text

if TYPE_CHECKING:  # imported where it is needed: most runs read no video
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

VIDEO_ENDINGS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".ogv",
     ".mts", ".m2ts")
)  # fmt: skip
STILL = "_pipe"  # at the end of the names of formats that are one image
DEFAULT_RATE = Fraction(25)  # of a file that states none
STATE_LENGTH = ("matroska", "asf")  # formats whose header says how long a video is, if not how many
# How much earlier than its stated length a video may end: lengths are rounded, and rates vary.
SLACK_SECONDS, SLACK_FRAMES = 0.5, 3


class VideoDamage(DataError):
    """A video is broken after its first `frames` frames, which were read."""

    def __init__(self, path: Path, frames: int, expected: int | None, reason: str) -> None:
        of = f" of {expected}" if expected and expected > frames else ""
        super().__init__(f"{path}: video is damaged after {frames}{of} frames ({reason})")
        self.frames = frames


@dataclass(frozen=True, kw_only=True)
class Video:
    """A readable video file.

    fps: mean frames per second. size: (H, W) of the upright frames. num_frames: how many there are
    as the container says, or about as many as follow from its length; None if it says neither.
    Iterating reads the file from the start.
    """

    path: Path
    fps: Fraction
    size: tuple[int, int]
    num_frames: int | None

    def __iter__(self) -> Iterator[Picture]:
        """Every frame, (H, W, 3) uint8 RGB. Raises VideoDamage after the last sound one."""
        done = 0
        try:
            with _opened(self.path) as (container, stream):
                for frame in _frames(container, stream):
                    picture = _upright(frame)
                    if picture.shape[:2] != self.size:
                        found, first = size_text(*picture.shape[:2]), size_text(*self.size)
                        raise _Damage(f"then they are {found} pixels, not {first}")
                    yield picture
                    done += 1
        except _Damage as damage:
            raise VideoDamage(self.path, done, self.num_frames, str(damage)) from damage


class _Damage(Exception):
    """Why reading ends before the end of the video."""


def is_video(path: Path) -> bool:
    """Whether the ending of `path` is that of a video."""
    return path.suffix.lower() in VIDEO_ENDINGS


def open_video(path: Path) -> Video:
    """The video in `path`, whose first frame has been decoded.

    Raises DataError for a missing file, one that is no video, and a video without a sound frame.
    """
    with _opened(path) as (container, stream):
        try:
            first = next(_frames(container, stream), None)
        except _Damage as damage:
            raise DataError(f"{path}: video holds no frame that can be read ({damage})") from damage
        if first is None:
            raise DataError(f"{path}: video holds no frames")
        height, width = _upright(first).shape[:2]
        rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
        return Video(
            path=path,
            fps=Fraction(rate),
            size=(height, width),
            num_frames=stream.frames or _count(_seconds(container, stream), rate),
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream; DataError if it has none or cannot be read."""
    import av

    try:
        path.stat()
        # an absolute path is no address and no option of a protocol, whatever it is called
        container = av.open(str(path.absolute()))
    except av.error.FFmpegError as error:
        raise DataError(
            f"{path}: video cannot be read: {_said(error)}; it is no video, or was cut off before "
            "its index was written"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: video cannot be read: {error.strerror or error}") from error
    with container:
        kind = container.format.name.removesuffix(STILL)
        if kind != container.format.name:
            raise DataError(f"{path}: no video, but an image ({kind}); give it the ending of one")
        if not container.streams.video:
            raise DataError(f"{path}: holds no video stream")
        yield container, container.streams.video[0]


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The decoded frames of `stream`; _Damage after the last one before anything broken."""
    import av

    packets, begin, end = 0, None, 0.0
    try:
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.is_corrupt:
                raise _Damage("a part of the file is missing or broken")
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise _Damage("a frame is incomplete")
                begin = frame.time if begin is None else begin
                end = max(end, (frame.time or 0.0) - (begin or 0.0))
                yield frame
    except (av.error.FFmpegError, _Damage) as error:
        yield from _left_in(stream)
        raise _Damage(_said(error)) from error
    _check_end(container, stream, packets, end)


def _left_in(stream: VideoStream) -> Iterator[VideoFrame]:
    """The sound frames that the decoder still holds because it puts them into order."""
    import av

    try:
        for frame in stream.codec_context.decode(None):
            if frame.is_corrupt:
                return
            yield frame
    except av.error.FFmpegError:
        return


def _check_end(container: InputContainer, stream: VideoStream, packets: int, end: float) -> None:
    """_Damage if the file ends before the frames do that it announces.

    packets: frames found; end: seconds from the first frame to the last one.
    """
    if stream.frames:
        if packets < stream.frames:
            raise _Damage("the file is cut off")
        return
    if not any(name in container.format.name for name in STATE_LENGTH):
        return
    seconds, rate = _seconds(container, stream), float(stream.average_rate or DEFAULT_RATE)
    if seconds is not None and seconds - end > max(SLACK_SECONDS, SLACK_FRAMES / rate):
        raise _Damage(f"the file is cut off at {end:.1f} of {seconds:.1f} seconds")


def _seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The length of the stream that the file states; None if it does not."""
    import av

    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    stated = stream.metadata.get("DURATION", "").split(":")
    if len(stated) == 3:
        try:
            hours, minutes, seconds = map(float, stated)
        except ValueError:
            return None
        return 3600 * hours + 60 * minutes + seconds
    # sound may go on after the last frame
    alone = len(list(container.streams)) == 1 and container.duration is not None
    return (container.duration or 0) / av.time_base if alone else None


def _count(seconds: float | None, rate: Fraction) -> int | None:
    return None if seconds is None else round(seconds * rate)


def _upright(frame: VideoFrame) -> Picture:
    """uint8 RGB (H, W, 3), turned as the file says: cameras store what they see when held upright
    on its side."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _said(error: Exception) -> str:
    """What the decoder says about a file, in one line without its own names."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split())
