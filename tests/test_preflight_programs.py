# SPDX-License-Identifier: Apache-2.0
"""Memory, time and disk of a training are known before its first step, which stays the same."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.engine.test_untouched import assert_same
from tests.program import ROOT, TINY, assert_one_line_error, command, environment, run, street_flags

pytestmark = pytest.mark.slow

LINES = ("preflight: step of", "preflight: validation of", "preflight: an epoch", "preflight: disk")


def content(directory: Path) -> dict[str, Any]:
    """The last checkpoint of a run, without the words that started it."""
    file = max(directory.glob("last_checkpoint_ep*.pth"), key=lambda path: path.name)
    found: dict[str, Any] = torch.load(file, weights_only=True)
    return {name: value for name, value in found.items() if name not in ("command", "auto_fit")}


def rows(directory: Path) -> list[str]:
    """The scores of every validation."""
    lines = (directory / "metrics.csv").read_text().splitlines()
    return [line.split(",timestamp")[0] for line in lines if line.startswith("val,")]


def assert_same_training(one: Path, other: Path) -> None:
    assert_same(content(one), content(other))
    assert rows(one) == rows(other) and rows(one)


def street_run(root: Path, directory: Path, *more: str) -> list[str]:
    """Everything that could leave a trace: averages, moments, dropout, accumulation."""
    return [
        *TINY, *street_flags(root, directory), "--crop_size", "64,64", "--bs_trn", "2",
        "--mscale_dropout", "--ema", "0.9", "--optimizer", "adamw", "--lr", "0.01",
        "--accum_steps", "2", "--class_uniform_tile", "64", "--tracker", "none", *more,
    ]  # fmt: skip


def stopped_after_an_epoch(line: list[str]) -> str:
    """Start `line` and ask it to stop when its first epoch is through; what it said."""
    said = []
    with subprocess.Popen(
        line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            said.append(text)
            if text.startswith("[epoch 0]"):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 130, "".join(said)
    return "".join(said)


def test_a_training_is_the_same_to_the_last_bit_also_when_it_goes_on(
    street_root: Path, tmp_path: Path
) -> None:
    plain, looked = tmp_path / "plain", tmp_path / "looked"
    done = run("train.py", *street_run(street_root, plain, "--max_epoch", "3", "--no_preflight"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "preflight" not in done.stdout
    flags = street_run(street_root, looked, "--max_epoch", "3", "--resume", "auto")
    first = stopped_after_an_epoch(command("train.py", *flags))
    again = run("train.py", *flags)
    assert again.returncode == 0 and "resumed" in again.stdout, again.stdout + again.stderr
    for said in (first, again.stdout):
        assert [sum(line.startswith(text) for line in said.splitlines()) for text in LINES] == [
            1
        ] * 4
        peak = re.search(r"step of 2 images of 64x64: .* peak memory ([\d.]+) MiB", said)
        assert peak is not None and 100 < float(peak[1]) < 4000
        assert "validation of 1 image of 128x64" in said
    assert_same_training(plain, looked)
    finished = run("train.py", *flags)
    assert finished.returncode == 0 and "preflight" not in finished.stdout, "nothing is left to do"


def test_two_ranks_train_the_same_too(street_root: Path, tmp_path: Path) -> None:
    for name, more in (("plain", ["--no_preflight"]), ("looked", [])):
        flags = street_run(street_root, tmp_path / name, "--max_epoch", "2", *more)
        done = run("train.py", *flags, ranks=2)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("preflight: step of") == (name == "looked")
    assert_same_training(tmp_path / "plain", tmp_path / "looked")


def write_set(root: Path, classes: int, large: tuple[int, int]) -> Path:
    """A custom set whose second validation image is `large` (H, W)."""
    rng = np.random.default_rng(0)
    sizes = {"train": [(128, 192)] * 8, "val": [(64, 96), large]}
    for split, shapes in sizes.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index, shape in enumerate(shapes):
            blocks = rng.integers(0, 3, (shape[0] // 16, shape[1] // 16))
            mask = np.kron(blocks, np.ones((16, 16))).astype(np.uint8)
            image = np.repeat(mask[..., None] * 80, 3, axis=2)
            Image.fromarray(image).save(root / "images" / split / f"{index} é.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index} é.png")
    splits = {split: {"images": f"images/{split}", "labels": f"masks/{split}"} for split in sizes}
    names = [f"class {number}" for number in range(classes)]
    path = root / "blocks.yml"
    path.write_text(yaml.safe_dump({"names": names, "splits": splits}))
    return path


def custom_run(description: Path, directory: Path, *more: str) -> list[str]:
    return [
        *TINY, "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={description}",
        "--class_uniform_pct", "0", "--num_workers", "0", "--max_epoch", "1", "--tracker", "none",
        "--set", f"DATASET.CENTROID_ROOT={description.parent}/centroids", "--result_dir",
        str(directory), *more,
    ]  # fmt: skip


def test_settings_that_fit_are_found_and_train_as_if_they_were_typed(tmp_path: Path) -> None:
    """The scores of 150 classes take the memory: eight images need more than a GiB."""
    description = write_set(tmp_path / "set", 150, (64, 96))
    batch = ("--crop_size", "128,192", "--bs_trn", "8")
    room = ("tests/limited_train.py", "1000")
    refused = run(*room, *custom_run(description, tmp_path / "refused", *batch))
    line = assert_one_line_error(
        refused, "training step of 8 images of 192x128 needs more memory than there is",
        "would do (step peak memory", "--auto_fit",
    )  # fmt: skip
    assert not list((tmp_path / "refused").glob("*.pth"))
    flags = custom_run(description, tmp_path / "fitted", *batch, "--auto_fit")
    fitted = run(*room, *flags)
    assert fitted.returncode == 0, fitted.stdout + fitted.stderr
    chosen = re.search(r"^--auto_fit: (--grad_ckpt --bs_trn .*)$", fitted.stdout, re.MULTILINE)
    assert chosen is not None and chosen[1] in line
    assert "the effective batch stays 8 images" in fitted.stdout
    typed = custom_run(description, tmp_path / "typed", *batch, *chosen[1].split())
    done = run("train.py", *typed, "--no_preflight")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_training(tmp_path / "typed", tmp_path / "fitted")
    again = run("train.py", *flags, "--resume", "auto")
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"--auto_fit: as before in this run: {chosen[1]}" in again.stdout


def test_a_network_that_finds_no_room_is_one_line(tmp_path: Path) -> None:
    description = write_set(tmp_path / "set", 3, (64, 96))
    refused = run(
        "tests/limited_train.py", "30",
        *custom_run(description, tmp_path / "run", "--set", "MODEL.hrnet_width=64"),
    )  # fmt: skip
    assert_one_line_error(refused, "not enough memory (", "more wanted, by network/", "a smaller")


def test_a_validation_that_would_end_the_run_ends_it_before_it_starts(tmp_path: Path) -> None:
    description = write_set(tmp_path / "set", 3, (1280, 1536))
    refused = run(
        "tests/limited_train.py", "800",
        *custom_run(description, tmp_path / "run", "--crop_size", "128,192", "--bs_trn", "1"),
    )  # fmt: skip
    assert_one_line_error(
        refused, "validation of 1 image of 1536x1280", "--slide_crop 128,192 --slide_stride 96,144",
    )  # fmt: skip
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize("flag", ["--no_preflight", "--auto_fit"])
def test_an_evaluation_has_no_preflight(flag: str) -> None:
    assert_one_line_error(run("eval.py", "--dataset", "camvid", flag), flag, "training")


def test_the_two_flags_exclude_each_other() -> None:
    result = run("train.py", "--dataset", "camvid", "--no_preflight", "--auto_fit")
    assert_one_line_error(result, "--auto_fit and --no_preflight exclude each other")
