# SPDX-License-Identifier: Apache-2.0
"""HRViT through the real programs: the published way of training, and several scales."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.program import assert_one_line_error, run

pytestmark = pytest.mark.slow
SHORT = ("--bs_trn", "2", "--max_iter", "2", "--val_iters", "2", "--num_workers", "0")
ADAMW = ("--optimizer", "adamw", "--lr", "6e-5", "--lr_by", "iter", "--warmup_iters", "1")


def train(*flags: str, street_root: Path, directory: Path) -> None:
    """Two iterations on the synthetic streets."""
    result = run(
        "train.py", "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}",
        "--class_uniform_pct", "0", *SHORT, *ADAMW, *flags, "--result_dir", str(directory),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_multi_scale_form_trains_and_is_evaluated_at_any_scales(
    street_root: Path, tmp_path: Path
) -> None:
    train("--arch", "hrvit.b1_SegFormer_Mscale", "--supervised_mscale_loss_wt", "0.05",
          "--rmi_loss", "--grad_ckpt", "--param_rules", "head:lr=10,scale_attn:lr=10,norm:decay=0",
          "--crop_size", "64,96", street_root=street_root, directory=tmp_path / "run")  # fmt: skip
    result = run("eval.py", "--from_run", str(tmp_path / "run"), "--n_scales", "0.5,1.0,2.0",
                 "--num_workers", "0", "--result_dir", str(tmp_path / "eval"))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert found["protocol"]["arch"] == "hrvit.b1_SegFormer_Mscale"


def test_the_published_way_of_training_runs_with_its_auxiliary_head(
    street_root: Path, tmp_path: Path
) -> None:
    train("--arch", "hrvit.b1_UPerNet", "--augmentation", "mmseg", "--img_scale", "256,64",
          "--crop_size", "64", "--param_rules", "head:lr=10,norm:decay=0", "--loss_average", "all",
          "--aux_weight", "0.4", "--log_accuracy", "--drop_path", "0.1", "--test_scale", "256,64",
          "--slide_crop", "64", "--slide_stride", "48",
          street_root=street_root, directory=tmp_path)  # fmt: skip
    assert "val" in (tmp_path / "metrics.csv").read_text()
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["flags"]["drop_path"] == 0.1


def test_a_classifier_does_not_segment(street_root: Path, tmp_path: Path) -> None:
    result = run("train.py", "--dataset", "synthetic", "--arch", "hrvit.b1_224",
                 "--set", f"DATASET.SYNTHETIC_DIR={street_root}", "--class_uniform_pct", "0",
                 "--result_dir", str(tmp_path))  # fmt: skip
    assert_one_line_error(result, "hrvit.b1_224")
