# SPDX-License-Identifier: Apache-2.0
"""SegFormer and HILA by the real programs: small images, broken weights, wider blocks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from network.backbones.swin import MLP
from network.build import build_net
from tests.program import assert_one_line_error, run, street_flags

pytestmark = pytest.mark.slow

SEGFORMER = ("--arch", "segformer.B0", "--set", "MODEL.stage_depths=1,1,1,1")
HILA_SWIN = {"stage_depths": (1, 2, 1, 1), "hila_stages": (2,), "aux_head": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of mmsegmentation."""
    path = tmp_path_factory.mktemp("weights") / "mmseg.pth"
    net = build_net("segformer.B0", 19, stage_depths=(1, 1, 1, 1))
    torch.save({"meta": {}, "state_dict": net.state_dict()}, path)
    return path


def noise(height: int, width: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def test_one_picture_that_is_too_small_does_not_end_a_folder(weights: Path, tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name, size in {"a": (5, 90), "b": (20, 20), "c": (65, 47)}.items():
        noise(*size).save(photos / f"{name}.png")
    result = run(
        "eval.py", "--eval", "folder", "--eval-folder", str(photos), "--snapshot", str(weights),
        "--multi_scale_inference", "--extra_scales", "0.5", "--dataset", "synthetic", *SEGFORMER,
        "--num_workers", "0", "--result_dir", str(out),
    )  # fmt: skip
    assert result.returncode == 3, result.stdout + result.stderr
    assert "layout mmseg: " in result.stdout
    line = f"not predicted: a: {photos}/a.png (90x5 pixels): at scale 0.5 an image of 45x2 pixels"
    assert line in result.stdout
    assert {path.name for path in out.rglob("*_prediction.png")} == {
        "b_prediction.png", "c_prediction.png",
    }  # fmt: skip
    assert json.loads((out / "results.json").read_text())["counts"]["unreadable"] == 1


def test_a_data_set_stops_at_a_picture_that_is_too_small_and_names_it(
    weights: Path, street_root: Path, tmp_path: Path
) -> None:
    streets = Path(shutil.copytree(street_root, tmp_path / "streets"))
    label = sorted(streets.rglob("val/*/*_gtFine_labelIds.png"))[1]
    Image.fromarray(np.full((3, 40), 7, np.uint8)).save(label)
    picture = sorted(streets.rglob("val/*/*_leftImg8bit.png"))[1]
    noise(3, 40).save(picture)
    flags = street_flags(streets, tmp_path / "run")
    result = run("eval.py", *SEGFORMER, *flags, "--snapshot", str(weights))
    assert_one_line_error(result, f"{picture} (40x3 pixels): an image of 40x3", "at least 4")


def test_scores_that_are_not_finite_are_warned_of(
    weights: Path, street_root: Path, tmp_path: Path
) -> None:
    content = torch.load(weights, weights_only=True)
    content["state_dict"]["decode_head.linear_pred.weight"][3] = 3e38  # finite, its products not
    torch.save(content, tmp_path / "broken.pth")
    flags = street_flags(street_root, tmp_path / "run")
    result = run("eval.py", *SEGFORMER, *flags, "--snapshot", str(tmp_path / "broken.pth"))
    assert result.returncode == 0, result.stdout + result.stderr
    warnings = [line for line in result.stdout.splitlines() if line.startswith("warning: ")]
    first = sorted(street_root.rglob("val/*/*_leftImg8bit.png"))[0]
    assert first.stem.removesuffix("_leftImg8bit") in warnings[0] and len(warnings) == 2
    assert "NaN or infinite scores in 4 of 4 images" in warnings[1]
    assert "NaN or Inf found" not in result.stdout + result.stderr


def test_a_run_from_a_published_file_with_wider_blocks_resumes(
    street_root: Path, tmp_path: Path
) -> None:
    net = build_net("hila.SwinT_S234", 19, **HILA_SWIN)
    net.set_submodule("backbone.layers.1.bottom_sa.0.mlp", MLP(96, 4))
    torch.save({"state_dict": net.state_dict()}, tmp_path / "wide.pth")
    base = [
        "train.py", "--arch", "hila.SwinT_S234", "--set", "MODEL.stage_depths=1,2,1,1", "--set",
        "MODEL.hila_stages=2", "--set", "MODEL.aux_head=false", "--crop_size", "64,64",
        "--class_uniform_pct", "0", "--test_mode", *street_flags(street_root, tmp_path / "run"),
    ]  # fmt: skip
    first = run(*base, "--snapshot", str(tmp_path / "wide.pth"))
    assert first.returncode == 0, first.stdout + first.stderr
    result = run(*base, "--resume", "auto")
    assert result.returncode == 0 and "resumed " in result.stdout, result.stdout + result.stderr
