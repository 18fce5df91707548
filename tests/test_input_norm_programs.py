# SPDX-License-Identifier: Apache-2.0
"""The inputs that weights want, through the real programs: training, going on, evaluating."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch

from network.build import build_net
from network.convert import read_checkpoint
from tests.network.test_input_norm import hub_folder
from tests.program import assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow

ARCH = ("--arch", "segformer.B0", "--set", "MODEL.stage_depths=1,1,1,1")
TRAIN = ("--class_uniform_pct", "0", "--crop_size", "64", "--bs_trn", "2", "--lr", "1e-4")
HALF = "changes its inputs to mean 0.5 0.5 0.5, std 0.5 0.5 0.5, as its weights want them"


def newest(directory: Path) -> Path:
    return max(directory.glob("last_checkpoint_ep*.pth"), key=lambda path: path.stat().st_mtime_ns)


def test_what_a_folder_says_stays_with_the_weights_to_the_end(
    street_root: Path, tmp_path: Path
) -> None:
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    folder, _ = hub_folder(tmp_path / "hub", **half)
    place = tmp_path / "run"
    base = ("train.py", *ARCH, *TRAIN, *street_flags(street_root, place))
    result = run(*base, "--max_epoch", "1", "--pretrained", str(folder))
    assert result.returncode == 0 and HALF in result.stdout, result.stdout + result.stderr
    content = read_checkpoint(newest(place))
    assert content["input_mean"] == content["input_std"] == [0.5] * 3
    result = run(*base, "--max_epoch", "2", "--resume", "auto", "--input_norm", "unit")
    assert_one_line_error(result, "--resume", "mean 0.5 0.5 0.5", "--input_norm unit")
    result = run(*base, "--max_epoch", "2", "--resume", "auto")
    assert result.returncode == 0 and HALF in result.stdout, result.stdout + result.stderr
    assert read_checkpoint(newest(place))["input_mean"] == [0.5] * 3

    small = ("--num_workers", "0", "--result_dir", str(tmp_path / "eval"))
    result = run("eval.py", "--from_run", str(place), *small)
    assert result.returncode == 0 and HALF in result.stdout, result.stdout + result.stderr
    plain = tmp_path / "plain.safetensors"
    result = run("scripts/convert_checkpoint.py", str(newest(place)), str(plain))
    assert result.returncode == 0, result.stdout + result.stderr
    flags = street_flags(street_root, tmp_path / "eval2")
    result = run("eval.py", "--snapshot", str(plain), "--eval", "val", *flags)
    assert result.returncode == 0 and HALF in result.stdout, result.stdout + result.stderr
    result = run("eval.py", "--snapshot", str(plain), "--eval", "val", "--input_norm", "clip",
                 *flags)  # fmt: skip
    assert_one_line_error(result, str(plain), "mean 0.5 0.5 0.5", "--input_norm clip")


def test_a_file_that_says_nothing_takes_the_setting(street_root: Path, tmp_path: Path) -> None:
    net = build_net("segformer.B0", 19, stage_depths=(1, 1, 1, 1))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "other.safetensors")
    base = ("eval.py", *ARCH, "--snapshot", str(tmp_path / "other.safetensors"), "--eval", "val",
            *street_flags(street_root, tmp_path / "eval"))  # fmt: skip
    plain = run(*base)
    assert plain.returncode == 0 and "changes its inputs" not in plain.stdout, plain.stdout
    told = run(*base, "--input_norm", "half")
    assert told.returncode == 0 and HALF in told.stdout, told.stdout + told.stderr
    assert_one_line_error(run(*base, "--input_norm", "0.5"), "one of imagenet, half, unit, clip")
