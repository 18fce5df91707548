# SPDX-License-Identifier: Apache-2.0
"""eval.py on folders of images and videos, as a tool that writes files for other tools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.large import LIMIT, peaks
from datasets.video import open_video
from network.build import build_net
from network.outputs import PRED
from reports.image_dump import composite
from reports.video_writer import VideoWriter
from tests.program import ROOT, TINY, command, environment, run

pytestmark = pytest.mark.slow

RATE = Fraction(25)


def pictures(count: int, size: tuple[int, int] = (64, 96), seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 7, 3), np.uint8)
    return [cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC) for each in coarse]


def write_clip(path: Path, frames: list[np.ndarray]) -> None:
    with VideoWriter(path, RATE, frames[0].shape[:2]) as writer:
        for frame in frames:
            writer.add(frame)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the tiny network, whose classes follow the image."""
    torch.manual_seed(0)
    net = build_net(
        "ocrnet.HRNet_Mscale", 19, hrnet_width=4, hrnet_modules=(1, 1, 1), hrnet_blocks=1,
        ocr_mid_channels=16, ocr_key_channels=8, segattn_bot_ch=8,
    )  # fmt: skip
    images = torch.randn(4, 3, 64, 96)
    with torch.no_grad():
        for _ in range(20):  # until the batch norms know what comes
            net.train()(images)
        means = net.eval()(images)[PRED].mean((0, 2, 3))
        for name, value in net.named_parameters():
            if name.endswith("bias") and value.shape == (19,):
                value -= means
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"state_dict": net.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes in sub-folders, a torn one, a clip of odd size, and a false one."""
    root = tmp_path_factory.mktemp("in")
    (root / "sub" / "a b").mkdir(parents=True)
    sizes = {"x.png": (64, 96), "sub/y.jpg": (65, 97), "sub/a b/z.png": (70, 64)}
    for name, size in sizes.items():
        Image.fromarray(pictures(1, size, len(name))[0]).save(root / name)
    whole = (root / "x.png").read_bytes()
    (root / "sub" / "torn.png").write_bytes(whole[: len(whole) // 2])
    write_clip(root / "sub" / "clip.mp4", pictures(7, (65, 95)))
    (root / "text.mp4").write_text("no video\n")
    return root


def evaluate(weights: Path, place: Path, out: Path, *flags: str, ranks: int = 1, workers: int = 0):
    result = run(
        "eval.py", *TINY, "--dataset", "cityscapes", "--snapshot", str(weights), "--eval", "folder",
        "--eval_folder", str(place), "--num_workers", str(workers), "--result_dir", str(out),
        *flags, ranks=ranks,
    )  # fmt: skip
    if ranks == 1:  # the launcher shows one of its own for an exit code above 0
        assert "Traceback" not in result.stdout + result.stderr, result.stdout + result.stderr
    return result


def files(out: Path) -> dict[str, bytes]:
    """What was written into trees, by path."""
    trees = ("ids", "scores", "masks", "color", "composite", "manifest.jsonl")
    return {
        str(path.relative_to(out)): path.read_bytes()
        for name in trees
        for path in ([out / name] if (out / name).is_file() else (out / name).rglob("*"))
        if path.is_file()
    }


FLAGS = ("--dump_ids", "raw", "--dump_masks", "sky,traffic light", "--mask_dilate", "1",
         "--dump_scores", "--top_scores", "2", "--dump_color")  # fmt: skip


@pytest.fixture(scope="module")
def done(weights: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything about `folder`, by one process."""
    out = tmp_path_factory.mktemp("out")
    result = evaluate(weights, folder, out, *FLAGS)
    assert result.returncode == 3, result.stdout
    assert "not read: sub/torn: " in result.stdout
    assert f"failed: text: {folder}/text.mp4: video cannot be read" in result.stdout
    return out


def test_every_tree_has_every_image_and_frame_and_there_is_no_other_picture(
    done: Path, folder: Path
) -> None:
    names = ["x", "sub/y", "sub/a b/z", *(f"sub/clip/{number:06d}" for number in range(7))]
    trees = {"ids": "png", "color": "png", "scores": "npz", "masks/sky": "png",
             "masks/traffic_light": "png"}  # fmt: skip
    wanted = {f"{tree}/{name}.{end}" for tree, end in trees.items() for name in names}
    assert files(done).keys() == {*wanted, "composite/sub/clip.mp4", "manifest.jsonl"}
    assert not (done / "best_images").exists()
    rows = [json.loads(line) for line in (done / "manifest.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["sub/a b/z", "sub/y", "x", "sub/clip"]
    clip = rows[-1]
    assert (clip["frames"], clip["fps"], clip["height"], clip["width"]) == (7, 25.0, 65, 95)
    assert clip["file"] == str(folder / "sub" / "clip.mp4")
    for row in rows:
        assert sum(row["classes"].values()) == pytest.approx(1, abs=1e-4)
        assert 1 / 19 < row["confidence"] < 1
        assert all((done / file).exists() for file in row["files"].values())
    ids = np.asarray(Image.open(done / "ids" / "sub" / "y.png"))
    assert ids.shape == (65, 97) and len(np.unique(ids)) > 1
    with np.load(done / "scores" / "sub" / "y.npz") as content:
        assert content["ids"].shape == content["scores"].shape == (2, 65, 97)
        assert content["scores"].dtype == np.float16
        color = np.asarray(Image.open(done / "color" / "sub" / "y.png"))
        assert np.array_equal(content["ids"][0], color)


def test_a_video_of_predictions_has_the_frames_rate_and_size_of_the_video(
    done: Path, folder: Path, weights: Path, tmp_path: Path
) -> None:
    """Its frames are predicted as the same pictures are when they are images."""
    source = open_video(folder / "sub" / "clip.mp4")
    made = open_video(done / "composite" / "sub" / "clip.mp4")
    assert (made.size, made.fps, made.num_frames) == (source.size, source.fps, 7)
    frames = list(source)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number:06d}.png")
    result = evaluate(weights, tmp_path / "frames", tmp_path / "out", "--dump_ids", "train")
    assert result.returncode == 0, result.stdout
    palette = Image.open(done / "color" / "sub" / "clip" / "000000.png").getpalette()
    for number, (frame, shown) in enumerate(zip(frames, made, strict=True)):
        name = f"{number:06d}.png"
        ids = np.asarray(Image.open(tmp_path / "out" / "ids" / name))
        assert np.array_equal(np.asarray(Image.open(done / "color/sub/clip" / name)), ids)
        want = composite(frame, ids, palette)
        assert np.abs(shown.astype(int) - want.astype(int)).mean() < 6


def test_several_processes_write_the_same_files(
    done: Path, weights: Path, folder: Path, tmp_path: Path
) -> None:
    result = evaluate(weights, folder, tmp_path, *FLAGS, ranks=2, workers=2)
    assert "failed: 2 of the files could not be read, predicted or written:" in result.stdout
    want, got = files(done), files(tmp_path)
    assert got.keys() == want.keys()
    assert [name for name in want if got[name] != want[name]] == []


def test_a_killed_run_continues_and_lists_everything(
    done: Path, weights: Path, folder: Path, tmp_path: Path
) -> None:
    arguments = [*TINY, "--dataset", "cityscapes", "--snapshot", str(weights), "--eval", "folder",
                 "--eval_folder", str(folder), "--num_workers", "0", "--result_dir", str(tmp_path),
                 *FLAGS]  # fmt: skip
    process = subprocess.Popen(
        command("eval.py", *arguments), cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL
    )
    listed = tmp_path / ".trees-0.jsonl"
    while process.poll() is None and not (listed.exists() and listed.read_text().count("\n") > 1):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {name: os.stat(tmp_path / name).st_mtime_ns for name in files(tmp_path)}
    noted = [json.loads(line)["files"] for line in listed.read_text().splitlines()[1:]]
    result = evaluate(weights, folder, tmp_path, *FLAGS)
    assert result.returncode == 3
    assert files(tmp_path) == files(done)
    for name in (file for row in noted for file in row.values()):
        assert os.stat(tmp_path / name).st_mtime_ns == kept[name]
    result = evaluate(weights, folder, tmp_path, *FLAGS)  # nothing is left to do
    assert "videos: 1, 1 of an earlier run, 0 frames" in result.stdout
    assert files(tmp_path) == files(done)


def test_a_damaged_video_keeps_the_frames_before_the_damage(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, pictures(40))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    for _ in range(2):  # and says so again when there is nothing left to do
        result = evaluate(weights, path, tmp_path / "out")
        assert result.returncode == 3
        lines = [line for line in result.stdout.splitlines() if "is damaged after" in line]
        assert lines[0].startswith(f"failed: clip: {path}: video is damaged after ")
    made = open_video(tmp_path / "out" / "composite" / "clip.mp4")
    frames = len(list(made))
    assert frames == made.num_frames and 5 < frames < 40
    assert f"after {frames} of 40 frames" in lines[0]
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert status["status"] == "failed" and len(status["files"]) == 1


def test_wrong_input_is_one_line(weights: Path, folder: Path, tmp_path: Path) -> None:
    for flags, said in (
        (("--dump_masks", "skyy"), "--dump_masks: cityscapes has no class skyy; did you mean sky?"),
        (("--top_scores", "3"), "--top_scores has no effect without --dump_scores"),
        (("--max_pixels", "12"), "a number of pixels from 2048"),
        (("--max_pixels", "4096", "--slide_crop", "64", "--slide_stride", "32"),
         "--max_pixels has no effect without images that are evaluated whole"),
    ):  # fmt: skip
        result = evaluate(weights, folder, tmp_path / "out", *flags)
        assert result.returncode == 2 and said in result.stderr
        assert result.stderr.count("\n") == 1
    result = evaluate(weights, folder / "text.mp4", tmp_path / "out")
    assert result.returncode == 2
    assert "none of the 1 images could be read and predicted, the first: text: " in result.stderr


def test_a_labelled_set_fills_the_same_trees(
    weights: Path, street_root: Path, tmp_path: Path
) -> None:
    result = run(
        "eval.py", *TINY, "--dataset", "synthetic", "--snapshot", str(weights),
        "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--num_workers", "0",
        "--dump_ids", "train", "--dump_composite", "--max_pixels", "4096",
        "--result_dir", str(tmp_path),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "windows of 32x32, overlapping by 8 at least" in result.stdout
    rows = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    counts = json.loads((tmp_path / "results.json").read_text())["counts"]
    assert len(rows) == counts["images"] == len(list((tmp_path / "ids").rglob("*.png")))


def test_peak_memory_grows_far_less_than_the_image(tmp_path: Path) -> None:
    found = peaks(tmp_path, (1024, 2048), 1 << 18)
    assert found[2048] < LIMIT * found[1024]
