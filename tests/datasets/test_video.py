"""Videos: every frame once and upright; what is broken is said after the frames before it."""

import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.base import DataError
from datasets.video import VideoDamage, is_video, open_video
from reports.video_writer import VideoWriter
from runtime.files import is_fatal
from tests.full_disk import REASON, full_after

RATE = Fraction(30000, 1001)


def scenes(count, size=(48, 64), seed=0):
    """Smooth random pictures, which compress well."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 6, 3), np.uint8)
    return [cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR) for picture in small]


def write(path, pictures, fps=RATE):
    with VideoWriter(path, fps, pictures[0].shape[:2]) as writer:
        for picture in pictures:
            writer.add(picture)
    return path


def encoded(path, pictures, codec, pixels="yuv420p", turned=0):
    """A video by another encoder than ours, with a rotation in degrees to show it by."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if turned:
            stream.set_display_rotation(turned)
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def read(path):
    """All frames before the end or the damage, and the damage."""
    frames = []
    try:
        frames.extend(open_video(path))
    except VideoDamage as damage:
        return frames, damage
    return frames, None


def same(frames, whole):
    return all(np.array_equal(*pair) for pair in zip(frames, whole, strict=False))


def differs(frame, picture):
    return np.abs(frame.astype(int) - picture.astype(int)).mean()


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 2), (33, 64)])
def test_what_is_written_is_read_again_with_size_rate_and_every_frame(tmp_path, size):
    pictures = scenes(23, size)
    path = write(tmp_path / "new folder" / "clip.mp4", pictures)
    video = open_video(path)
    assert (video.size, video.fps, video.num_frames) == (size, RATE, 23)
    frames, damage = read(path)
    assert damage is None and len(frames) == 23
    assert all(frame.dtype == np.uint8 and frame.shape == (*size, 3) for frame in frames)
    if min(size) > 2:
        assert max(map(differs, frames, pictures)) < 6
        assert differs(frames[3], pictures[4]) > 20


def test_a_video_can_be_read_twice(tmp_path):
    video = open_video(write(tmp_path / "clip.mp4", scenes(5)))
    assert len(list(video)) == len(list(video)) == 5


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx-vp9"), ("a.mpg", "mpeg2video"),
     ("a.MOV", "libx264")],
)  # fmt: skip
def test_other_containers_give_every_frame(tmp_path, name, codec):
    path = encoded(tmp_path / name, scenes(20), codec)
    video = open_video(path)
    frames, damage = read(path)
    assert is_video(path) and damage is None
    assert len(frames) == 20
    if name != "a.mpg":  # it states no length, which is then estimated
        assert video.num_frames == 20


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_turned_video_is_upright_as_opencv_shows_it(tmp_path, turned):
    path = encoded(tmp_path / "turned.mp4", scenes(4), "libx264", turned=turned)
    capture = cv2.VideoCapture(str(path))
    shown = [capture.read()[1][..., ::-1] for _ in range(4)]
    capture.release()
    frames, _ = read(path)
    assert open_video(path).size == frames[0].shape[:2] == shown[0].shape[:2]
    assert max(map(differs, frames, shown)) < 3


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.mp4", "libx264", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"), ("a.avi", "mjpeg", "yuvj420p"),
     ("a.mkv", "libx264", "yuv420p"), ("a.webm", "libvpx-vp9", "yuv420p")],
)  # fmt: skip
def test_frames_before_a_cut_are_kept_and_the_cut_is_said(tmp_path, name, codec, pixels):
    pictures = scenes(60)
    path = tmp_path / name
    if name == "a.mp4":
        write(path, pictures)
    else:
        encoded(path, pictures, codec, pixels)
    whole, content = list(open_video(path)), path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    frames, damage = read(path)
    assert damage is not None and damage.frames == len(frames)
    assert 15 < len(frames) < 60
    assert str(damage).startswith(f"{path}: video is damaged after {len(frames)} of 60 frames (")
    assert "\n" not in str(damage)
    assert same(frames, whole)  # nothing that decoders make up


def test_frames_before_flipped_bytes_are_kept(tmp_path):
    pictures = scenes(60)
    path = write(tmp_path / "clip.mp4", pictures)
    whole, content = list(open_video(path)), bytearray(path.read_bytes())
    start = len(content) * 6 // 10
    content[start : start + 300] = bytes(300)
    path.write_bytes(content)
    frames, damage = read(path)
    assert damage is not None and 15 < len(frames) < 60
    assert same(frames, whole)


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    text, empty, sound = tmp_path / "text.mp4", tmp_path / "empty.mp4", tmp_path / "sound.mp4"
    still = tmp_path / "still.mp4"
    Image.new("RGB", (96, 64)).save(still, "png")
    text.write_text("no video\n" * 50)
    empty.touch()
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for path, said in (
        (text, "cannot be read: Invalid data found when processing input; it is no video"),
        (empty, "cannot be read"),
        (tmp_path / "missing.mp4", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read"),
        (sound, "holds no video stream"),
        (still, "no video, but an image (png)"),
    ):
        with pytest.raises(DataError) as caught:
            open_video(path)
        assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_clip_without_frames_is_refused(tmp_path):
    path = tmp_path / "clip.avi"
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48)).release()
    assert path.stat().st_size > 0
    with pytest.raises(DataError, match=r"clip\.avi: video holds no frames$"):
        open_video(path)


def test_names_may_hold_any_bytes(tmp_path):
    path = write(tmp_path / os.fsdecode(b"a b:c%d \xe9.mp4"), scenes(3))
    assert len(read(path)[0]) == 3


def test_a_broken_off_writer_leaves_nothing_and_an_old_file_as_it_was(tmp_path):
    path = write(tmp_path / "clip.mp4", scenes(3))
    before = path.read_bytes()
    with pytest.raises(KeyError), VideoWriter(path, 25, (48, 64)) as writer:
        writer.add(scenes(1)[0])
        raise KeyError
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with VideoWriter(tmp_path / "none.mp4", 25, (48, 64)):
        pass
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_an_oserror(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError), VideoWriter(tmp_path / "file" / "clip.mp4", 25, (4, 4)) as writer:
        writer.add(np.zeros((4, 4, 3), np.uint8))


def test_a_full_disk_is_an_error_about_the_file_and_leaves_nothing(tmp_path):
    pictures = scenes(200, seed=1)
    path = tmp_path / "clip.mp4"
    with full_after(3000), pytest.raises(OSError, match=REASON) as caught:
        write(path, pictures)
    assert caught.value.filename == str(path) and is_fatal(caught.value)
    assert list(tmp_path.iterdir()) == []
