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
    process = subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(text)
        if text.startswith("[epoch 0]"):
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 130, "".join(said)
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


def test_settings_that_fit_are_found_and_train_as_if_they_were_typed(
    street_root: Path, tmp_path: Path
) -> None:
    def flags(name: str, *more: str) -> list[str]:
        return [
            *TINY, *street_flags(street_root, tmp_path / name), "--crop_size", "128,128",
            "--bs_trn", "8", "--max_epoch", "1", "--tracker", "none", *more,
        ]  # fmt: skip

    refused = run("tests/limited_train.py", "260", *flags("refused"))
    line = assert_one_line_error(
        refused, "training step of 8 images of 128x128 needs more memory than there is",
        "would do (step peak memory", "--auto_fit",
    )  # fmt: skip
    assert not list((tmp_path / "refused").glob("*.pth"))
    fitted = run("tests/limited_train.py", "260", *flags("fitted", "--auto_fit"))
    assert fitted.returncode == 0, fitted.stdout + fitted.stderr
    chosen = re.search(r"^--auto_fit: (--grad_ckpt.*)$", fitted.stdout, re.MULTILINE)
    assert chosen is not None and chosen[1].split("\n")[0] in line
    typed = run("train.py", *flags("typed", *chosen[1].split(), "--no_preflight"))
    assert typed.returncode == 0, typed.stdout + typed.stderr
    assert_same_training(tmp_path / "typed", tmp_path / "fitted")
    again = run("train.py", *flags("fitted", "--auto_fit", "--resume", "auto", "--max_epoch", "1"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"--auto_fit: as before in this run: {chosen[1]}" in again.stdout


def write_set_with_a_large_image(root: Path) -> Path:
    """Three classes; the second of the validation images is 1024x768."""
    rng = np.random.default_rng(0)
    sizes = {"train": [(4, 6)] * 4, "val": [(4, 6), (48, 64), (4, 6)]}
    for split, shapes in sizes.items():
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for index, shape in enumerate(shapes):
            mask = np.kron(rng.integers(0, 3, shape), np.ones((16, 16))).astype(np.uint8)
            image = np.repeat(mask[..., None] * 80, 3, axis=2)
            Image.fromarray(image).save(root / "images" / split / f"{index} é.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{index} é.png")
    splits = {split: {"images": f"images/{split}", "labels": f"masks/{split}"} for split in sizes}
    path = root / "blocks.yml"
    path.write_text(yaml.safe_dump({"names": ["dark", "grey", "light"], "splits": splits}))
    return path


def test_a_validation_that_would_end_the_run_ends_it_before_it_starts(tmp_path: Path) -> None:
    description = write_set_with_a_large_image(tmp_path / "set")
    flags = [
        *TINY, "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={description}",
        "--class_uniform_pct", "0", "--crop_size", "64,96", "--num_workers", "0", "--bs_trn", "2",
        "--max_epoch", "1", "--tracker", "none", "--set",
        f"DATASET.CENTROID_ROOT={tmp_path}/centroids", "--do_flip",
    ]  # fmt: skip
    refused = run("tests/limited_train.py", "330", *flags, "--result_dir", str(tmp_path / "a"))
    assert_one_line_error(
        refused, "validation of 1 image of 1024x768", "--slide_crop 64,96 --slide_stride 48,72",
    )  # fmt: skip
    fitted = run(
        "tests/limited_train.py", "330", *flags, "--result_dir", str(tmp_path / "b"), "--auto_fit"
    )
    assert fitted.returncode == 0, fitted.stdout + fitted.stderr
    assert "scores of validations are those of windows" in fitted.stdout
    assert rows(tmp_path / "b")


@pytest.mark.parametrize("flag", ["--no_preflight", "--auto_fit"])
def test_an_evaluation_has_no_preflight(flag: str) -> None:
    assert_one_line_error(run("eval.py", "--dataset", "camvid", flag), flag, "training")


def test_the_two_flags_exclude_each_other() -> None:
    result = run("train.py", "--dataset", "camvid", "--no_preflight", "--auto_fit")
    assert_one_line_error(result, "--auto_fit and --no_preflight exclude each other")
