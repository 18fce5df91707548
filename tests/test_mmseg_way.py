# SPDX-License-Identifier: Apache-2.0
"""Training and testing as the mmsegmentation recipes do it, by the real programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.program import ROOT, TINY, assert_one_line_error, command, environment, run

pytestmark = pytest.mark.slow

LENGTH, EVERY = 14, 5


def flags(root: Path, result_dir: Path, *more: str) -> list[str]:
    """AdamW with rules, poly with warm-up and validation by iteration; epochs of four steps."""
    return [
        *TINY,
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--class_uniform_pct", "0", "--crop_size", "64,64", "--bs_trn", "2", "--num_workers", "1",
        "--augmentation", "mmseg", "--img_scale", "128,64", "--test_scale", "128,48",
        "--optimizer", "adamw", "--lr", "0.001", "--weight_decay", "0.01",
        "--param_rules", "ocr:lr=10,bn:decay=0", "--lr_by", "iter", "--warmup_iters", "3",
        "--max_iter", str(LENGTH), "--val_iters", str(EVERY), "--loss_average", "all",
        "--log_accuracy", "--deterministic", "--resume", "auto", "--result_dir", str(result_dir),
        *more,
    ]  # fmt: skip


def checkpoint(directory: Path, kind: str = "last") -> Path:
    return next(directory.glob(f"{kind}_checkpoint_ep*.pth"))


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a training nobody disturbed."""
    directory = tmp_path_factory.mktemp("mmseg")
    result = run("train.py", *flags(street_root, directory))
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_the_run_validates_and_logs_by_iteration(trained: Path) -> None:
    rows = (trained / "metrics.csv").read_text().splitlines()
    steps = [int(row.split("epoch,")[1].split(",")[0]) for row in rows if "mean_iu" in row]
    assert steps == [5, 10, 14]
    status = json.loads((trained / "status.json").read_text())
    assert (status["status"], status["iteration"]) == ("done", LENGTH)
    log = (trained / "logging.log").read_text()
    assert "parameter groups: " in log
    assert "lr 0.01 decay 0.01" in log
    assert "Summary: mIoU" in log
    content = torch.load(checkpoint(trained), weights_only=True)
    assert content["progress"]["iteration"] == LENGTH
    rates = [group["lr"] for group in content["optimizer"]["param_groups"]]
    bases = [group["initial_lr"] for group in content["optimizer"]["param_groups"]]
    assert rates == pytest.approx([base * (1 - (LENGTH - 1) / LENGTH) for base in bases])


def test_a_killed_run_resumes_to_the_same_bits(
    street_root: Path, trained: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command("train.py", *flags(street_root, tmp_path, "--save_iters", "1")),
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("last_checkpoint_ep1.pth")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be disturbed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    result = run("train.py", *flags(street_root, tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "resumed" in result.stdout
    whole, halves = (torch.load(checkpoint(d), weights_only=True) for d in (trained, tmp_path))
    assert whole["progress"] == halves["progress"]
    different = [
        key
        for key, value in whole["state_dict"].items()
        if not torch.equal(value, halves["state_dict"][key])
    ]
    assert not different
    for key, state in whole["optimizer"]["state"].items():
        assert torch.equal(state["exp_avg_sq"], halves["optimizer"]["state"][key]["exp_avg_sq"])


def test_other_rules_do_not_resume(street_root: Path, trained: Path) -> None:
    result = run("train.py", *flags(street_root, trained), "--param_rules", "ocr:lr=10")
    assert_one_line_error(result, "--resume", "--param_rules")


def test_a_rule_without_parameters_is_one_line(street_root: Path, tmp_path: Path) -> None:
    result = run("train.py", *flags(street_root, tmp_path), "--param_rules", "pos_block:decay=0")
    assert_one_line_error(result, "--param_rules pos_block", "no parameter name")


def test_two_ranks_test_in_windows_views_and_probabilities_like_one(
    street_root: Path, trained: Path, tmp_path: Path
) -> None:
    results = []
    for ranks in (1, 2):
        directory = tmp_path / f"eval{ranks}"
        result = run(
            "eval.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
            "--snapshot", str(checkpoint(trained)), "--num_workers", "0", "--efficient_test",
            "--test_scale", "120,56", "--size_divisor", "32", "--slide_crop", "64",
            "--slide_stride", "48", "--slide_pad", "--bs_window", "3", "--do_flip",
            "--multi_scale_inference", "--default_scale", "0.5", "--extra_scales", "1.0,1.25",
            "--average", "probs", "--dump_all_images", "--result_dir", str(directory), ranks=ranks,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        assert "--efficient_test: every evaluation streams" in result.stdout
        assert "Summary: mIoU" in result.stdout
        results.append(json.loads((directory / "results.json").read_text()))
    one, two = results
    assert one["confusion"] == two["confusion"]
    images = len(list(street_root.rglob("val/*/*_leftImg8bit.png")))
    assert (one["counts"]["images"], two["counts"]["images"]) == (images, images)
    scored = sum(map(sum, one["confusion"]))
    assert 0 < scored <= images * 64 * 128, "scores are those of the file, not of the resized copy"
    assert one["reported"]["aAcc"] == pytest.approx(one["metrics"]["acc"], abs=5e-5)
    assert one["protocol"]["average"] == "probs"
    assert one["protocol"]["slide_stride"] == [48, 48]


def test_from_run_keeps_the_test_box(street_root: Path, trained: Path, tmp_path: Path) -> None:
    result = run("eval.py", "--from_run", str(trained), "--snapshot", str(checkpoint(trained)),
                 "--num_workers", "0", "--result_dir", str(tmp_path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["protocol"]["test_scale"] == [128, 48]
    last = [
        line for line in (trained / "metrics.csv").read_text().splitlines() if "mean_iu" in line
    ]
    score = float(last[-1].split("mean_iu,")[1].split(",")[0])
    assert results["metrics"]["mean_iu"] == pytest.approx(score, abs=2e-4)
