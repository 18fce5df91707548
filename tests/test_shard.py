# SPDX-License-Identifier: Apache-2.0
"""`--shard`: split weights give the weights of DistributedDataParallel, and the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.errors import UserError
from tests.program import run, street_flags
from tests.settings.test_classification import resolved
from tests.test_processes import content

STEPS = 20


def flags(root: Path, directory: Path, epochs: int) -> list[str]:
    """One step an epoch, of two batches for each of two ranks; recomputed blocks, an average."""
    return [
        "train.py", "--arch", "segformer.B0", "--grad_ckpt", *street_flags(root, directory),
        "--class_uniform_pct", "0", "--crop_size", "64,64", "--bs_trn", "2", "--accum_steps", "2",
        "--ema", "0.9", "--lr", "0.01", "--clip_grad", "1", "--poly_exp", "1e-9", "--no_progress",
        "--max_epoch", str(epochs), "--val_iters", "10", "--resume", "auto",
    ]  # fmt: skip


def assert_same(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """Entries, shapes and types of two files are equal, their numbers within float noise.

    The gradient of a bias that a norm takes away again is rounding alone: hence the 1e-5.
    """
    assert got.keys() == expected.keys()
    assert got["progress"]["iteration"] == expected["progress"]["iteration"] == STEPS
    moments = [
        {
            str(number): kept["momentum_buffer"]
            for number, kept in each["optimizer"]["state"].items()
        }
        for each in (got, expected)
    ]
    pairs = [(got[entry], expected[entry]) for entry in ("state_dict", "live_state_dict")]
    for own, other in [*pairs, moments]:
        assert own.keys() == other.keys()
        for name, value in other.items():
            assert (own[name].dtype, own[name].shape) == (value.dtype, value.shape)
            noise, size = (own[name] - value).double().norm(), value.double().norm()
            assert noise <= 1e-2 * size + 1e-5, (name, float(noise), float(size))


@pytest.mark.slow
def test_split_weights_train_as_whole_ones_and_files_go_on_in_both_modes(
    street_root: Path, tmp_path: Path
) -> None:
    wanted, got = tmp_path / "whole", tmp_path / "split"
    parts: list[tuple[Path, int, list[str]]] = [
        (wanted, STEPS, []), (got, 8, ["--shard"]), (got, 14, []), (got, STEPS, ["--shard"]),
    ]  # fmt: skip
    for directory, epochs, mode in parts:
        result = run(*flags(street_root, directory, epochs), *mode, ranks=2)
        assert result.returncode == 0, result.stdout + result.stderr
        assert ("parameters on each of 2 processes" in result.stdout) == bool(mode)
    assert_same(content(got), content(wanted))


@pytest.mark.parametrize("flag", ["--compile", "--channels_last"])
def test_what_cannot_be_split_is_refused(flag: str) -> None:
    with pytest.raises(UserError, match=f"--shard and {flag} exclude each other"):
        resolved("--shard", flag)
    with pytest.raises(UserError, match="--shard has no effect without training"):
        resolved("--shard", "--eval", "val")
