# SPDX-License-Identifier: Apache-2.0
"""A trunk of timm by the real programs: train, resume, evaluate without a word about the trunk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from tests.program import assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow

ARCH = ("--arch", "timm.SegFormer_Mscale", "--trunk", "test_vit", "--segattn_bot_ch", "8")


def test_an_evaluation_knows_the_trunk_from_the_checkpoint(
    street_root: Path, tmp_path: Path
) -> None:
    weights, out = tmp_path / "test_vit.pth", tmp_path / "run"
    torch.save(timm.create_model("test_vit").state_dict(), weights)
    flags = street_flags(street_root, out)
    train = (
        "train.py", *ARCH, *flags, "--pretrained", str(weights), "--layer_decay", "0.5",
        "--crop_size", "64,64", "--class_uniform_pct", "0", "--bs_trn", "2", "--grad_ckpt",
    )  # fmt: skip
    result = run(*train, "--max_epoch", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "layout timm: " in result.stdout and "parameter groups: " in result.stdout
    (checkpoint,) = out.glob("last_checkpoint_ep0.pth")

    changed = [part if part != "0.5" else "0.9" for part in train]
    result = run(*changed, "--max_epoch", "2", "--resume", "auto")
    assert_one_line_error(result, "--layer_decay (give those of the file)")

    seen = tmp_path / "seen"
    result = run(
        "eval.py", "--snapshot", str(checkpoint), *street_flags(street_root, seen), "--grad_ckpt"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((seen / "results.json").read_text())["counts"]["images"] > 0

    result = run("eval.py", "--snapshot", str(weights), *ARCH, *street_flags(street_root, seen))
    assert_one_line_error(result, f"{weights} (timm) holds a trunk, as classifiers of whole images")


def test_bad_trunks_are_one_line(street_root: Path, tmp_path: Path) -> None:
    flags = street_flags(street_root, tmp_path / "run")
    result = run("train.py", "--arch", "timm.OCR", "--trunk", "resnet1888", *flags)
    assert_one_line_error(result, "--trunk resnet1888 is no model of timm", "did you mean resnet18")
    result = run("train.py", "--arch", "segformer.B0", "--trunk", "convnext_atto", *flags)
    assert_one_line_error(
        result, "--trunk convnext_atto: --arch segformer.B0 has a trunk of its own"
    )
    result = run("train.py", "--arch", "segformer.B0", "--output_stride", "8", *flags)
    assert_one_line_error(result, "output_stride=8 has no effect on segformer.B0")
