# SPDX-License-Identifier: Apache-2.0
"""Classification through the real programs: learning, resuming, ranks, fine-tuning, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.class_folders import break_image, write_class_folders
from tests.program import ROOT, assert_one_line_error, command, environment, free_port, run

pytestmark = pytest.mark.slow
CLASSIFIER, SEGMENTER = "segformer.B0_224", "segformer.B0"
SMALL = ["--set", "MODEL.stage_depths=1,1,1,1"]
QUIET = ["--aa", "none", "--scale", "0.6,1", "--reprob", "0", "--mixup", "0", "--cutmix", "0"]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, 16 training and 4 validation images each."""
    return write_class_folders(tmp_path_factory.mktemp("pictures"), train=16, val=4)


def flags(root: Path, result_dir: Path, *more: str) -> list[str]:
    return [
        "--task", "classify", "--dataset", "imagenet", "--set", f"DATASET.IMAGENET_DIR={root}",
        "--arch", CLASSIFIER, *SMALL, "--img_size", "32", "--bs_trn", "16", "--bs_val", "16",
        "--num_workers", "1", "--result_dir", str(result_dir), *more,
    ]  # fmt: skip


def saved(directory: Path) -> dict:
    return torch.load(next(directory.glob("last_checkpoint_ep*.pth")), weights_only=True)


def assert_done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a classifier that has learnt the ten classes."""
    directory = tmp_path_factory.mktemp("trained")
    assert_done(
        run(
            "train.py", *flags(pictures, directory), *QUIET, "--max_epoch", "16", "--drop_path",
            "0", "--hflip", "0", "--val_freq", "8",
        )
    )  # fmt: skip
    return directory


def test_ten_classes_are_learnt_and_evaluated_alike(trained: Path, tmp_path: Path) -> None:
    content = saved(trained)
    best = content["progress"]["best"]
    assert best > 0.9
    assert (content["task"], content["num_classes"], content["top1"]) == ("classify", 10, best)
    snapshot = next(trained.glob("best_checkpoint_ep*.pth"))
    root = json.loads((trained / "run.json").read_text())["config"]["DATASET"]["IMAGENET_DIR"]
    for more in (["--snapshot", str(snapshot)], ["--from_run", str(trained)]):
        result_dir = tmp_path / more[0].strip("-")
        data = ["--set", f"DATASET.IMAGENET_DIR={root}", "--num_workers", "0"]
        assert_done(run("eval.py", *data, *more, "--result_dir", str(result_dir)))
        scores = json.loads((result_dir / "results.json").read_text())
        assert scores["top1"] == pytest.approx(best) and scores["images"] == 40
        assert scores["protocol"]["img_size"] == 32 and len(scores["recall"]) == 10


def test_a_segmenter_is_fine_tuned_from_the_classifier(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    pretrained = next(trained.glob("best_checkpoint_ep*.pth"))
    out = assert_done(
        run(
            "train.py", "--dataset", "synthetic", "--arch", SEGMENTER, *SMALL,
            "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--class_uniform_pct", "0",
            "--crop_size", "64,64", "--num_workers", "0", "--max_epoch", "6", "--lr", "1e-3",
            "--optimizer", "adamw", "--pretrained", str(pretrained), "--result_dir", str(tmp_path),
        )
    )  # fmt: skip
    assert "layout hiseg" in out
    losses = [float(value) for value in re.findall(r"val loss ([0-9.]+)", out)]
    assert len(losses) == 6 and losses[-1] < 0.8 * losses[0]


def test_a_classifier_is_no_snapshot_of_a_segmenter(trained: Path, street_root: Path) -> None:
    snapshot = str(next(trained.glob("last_checkpoint_ep*.pth")))
    result = run(
        "train.py", "--dataset", "synthetic", "--arch", SEGMENTER, "--class_uniform_pct", "0",
        "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--snapshot", snapshot,
    )  # fmt: skip
    assert_one_line_error(result, "is a classifier", "--pretrained")


def resumable(root: Path, directory: Path) -> list[str]:
    return flags(
        root, directory, "--max_epoch", "2", "--ema", "0.9", "--save_iters", "2", "--clip_grad",
        "1", "--drop_path", "0.2", "--deterministic", "--resume", "auto", "--val_freq", "2",
    )  # fmt: skip


def test_killed_run_resumes_to_the_same_bits(pictures: Path, tmp_path: Path) -> None:
    """Mixup, cutmix, RandAugment, erasing, drop-path: every draw goes on where it was."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert_done(run("train.py", *resumable(pictures, whole)))
    process = subprocess.Popen(
        command("train.py", *resumable(pictures, killed)), cwd=ROOT, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (killed / "last_checkpoint_ep1.pth").exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert "resumed" in assert_done(run("train.py", *resumable(pictures, killed)))
    expected, got = saved(whole), saved(killed)
    assert got["progress"] == expected["progress"]
    for part in ("state_dict", "live_state_dict"):
        different = [k for k, v in expected[part].items() if not torch.equal(v, got[part][k])]
        assert not different


def start_node(
    rank: int, root: Path, directory: Path, port: str, *more: str
) -> subprocess.Popen[str]:
    published = ["--data", str(root), "--model", CLASSIFIER, "-b", "8", "--img-size", "32"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        ["sh", "scripts/train_imagenet.sh", "2", "1", str(rank), *published, "--epochs", "1",
         "--warmup-epochs", "0", "--cooldown-epochs", "0", "--sync-bn", "-j", "0",
         "--output", str(directory), "--dist-url", f"tcp://127.0.0.1:{port}", *more],
        cwd=ROOT, env=environment(PATH=path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_two_machines_train_together(pictures: Path, tmp_path: Path) -> None:
    port, directory = free_port(), tmp_path / "run"
    nodes = [start_node(rank, pictures, directory, port) for rank in range(2)]
    outputs = [node.communicate(timeout=280)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outputs)
    assert saved(directory)["world_size"] == 2
    assert "40 images; best top-1" in outputs[0] and "best top-1" not in outputs[1]
    port, places = free_port(), (directory, tmp_path / "not shared")
    nodes = [
        start_node(rank, pictures, place, port, "--resume", "auto")
        for rank, place in enumerate(places)
    ]
    for node in nodes:
        text = node.communicate(timeout=280)[0]
        assert node.returncode != 0 and "not every process finds the same checkpoint" in text


@pytest.fixture
def damaged(pictures: Path, tmp_path: Path) -> Path:
    """A private copy of the images."""
    return Path(shutil.copytree(pictures, tmp_path / "pictures"))


def first(root: Path, split: str) -> Path:
    return sorted((root / split).rglob("*.JPEG"))[0]


def test_corrupt_pictures_are_skipped_counted_and_listed(
    damaged: Path, trained: Path, tmp_path: Path
) -> None:
    broken = [break_image(first(damaged, split)) for split in ("train", "val")]
    run_dir = tmp_path / "run"
    out = assert_done(run("train.py", *flags(damaged, run_dir), "--max_epoch", "1", *QUIET))
    assert str(broken[0]) in out and "1 unreadable training image so far" in out
    assert "39 images, 1 not read" in out
    snapshot = str(next(trained.glob("last_checkpoint_ep*.pth")))
    result = run(
        "eval.py", "--snapshot", snapshot, "--set", f"DATASET.IMAGENET_DIR={damaged}",
        "--num_workers", "0", "--result_dir", str(tmp_path / "eval"),
    )  # fmt: skip
    assert result.returncode == 3
    scores = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert scores["images"] == 39 and len(scores["unreadable"]) == 1
    assert broken[1].name in json.loads((tmp_path / "eval" / "status.json").read_text())["files"][0]


def test_a_validation_without_a_readable_picture_is_one_line(
    damaged: Path, trained: Path, tmp_path: Path
) -> None:
    for path in (damaged / "val").rglob("*.JPEG"):
        break_image(path)
    snapshot = str(next(trained.glob("last_checkpoint_ep*.pth")))
    data = ["--set", f"DATASET.IMAGENET_DIR={damaged}", "--num_workers", "0"]
    result = run(
        "eval.py", "--snapshot", snapshot, *data, "--img_size", "48",  # the file knows its task
        "--result_dir", str(tmp_path / "eval"),
    )  # fmt: skip
    assert_one_line_error(result, "none of the 40 images could be read", "n00000000_0.JPEG")
    run_dir = tmp_path / "run"
    result = run("train.py", *flags(damaged, run_dir), "--max_epoch", "1", *QUIET)
    assert_one_line_error(result, "none of the 40 images could be read", "n00000000_0.JPEG")
    assert not list(run_dir.glob("best_checkpoint*"))


def test_another_number_of_classes_than_in_the_checkpoint_is_one_line(
    damaged: Path, trained: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        shutil.rmtree(damaged / split / "n00000009")
    snapshot = next(trained.glob("last_checkpoint_ep*.pth"))
    data = ["--set", f"DATASET.IMAGENET_DIR={damaged}"]
    result = run("eval.py", "--snapshot", str(snapshot), *data)
    assert_one_line_error(result, snapshot.name, "10 classes", "9 class folders")
    result = run("train.py", *flags(damaged, tmp_path), "--snapshot", str(snapshot))
    changed = "imagenet had other classes when the file was trained"
    assert_one_line_error(result, snapshot.name, "10 classes", "has 9;", changed, "--allow_partial")


def test_an_empty_class_folder_stops_before_training(damaged: Path, tmp_path: Path) -> None:
    for path in (damaged / "train" / "n00000004").iterdir():
        path.unlink()
    result = run("train.py", *flags(damaged, tmp_path / "run"))
    assert_one_line_error(result, "train: n00000004 holds no image")
    assert not list((tmp_path / "run").glob("*.pth"))
