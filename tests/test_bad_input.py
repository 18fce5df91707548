# SPDX-License-Identifier: Apache-2.0
"""Wrong input: one line that says what and where, exit code 2, nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config import Config, UserError
from settings import read_flags, read_settings
from tests.program import ROOT, TINY, assert_one_line_error, command, environment, run


def train_flags(root: Path, result_dir: Path, *more: str) -> list[str]:
    return [
        *TINY,
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--set", f"DATASET.CENTROID_ROOT={result_dir}/centroids", "--class_uniform_tile", "64",
        "--crop_size", "64,64", "--num_workers", "0", "--max_epoch", "1",
        "--result_dir", str(result_dir), *more,
    ]  # fmt: skip


@pytest.fixture
def streets(street_root: Path, tmp_path: Path) -> Path:
    """A private copy of the synthetic set, to be damaged."""
    return Path(shutil.copytree(street_root, tmp_path / "streets"))


def first(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--bs_trn", "0"], ["--bs_trn", "at least 1"]),
        (["--n_scales", "0.5,2.0"], ["--n_scales", "1.0 must be one"]),
        (["--n_scales", "a,b"], ["--n_scales", "comma list"]),
        (["--crop_size", "16"], ["--crop_size", "at least 32"]),
        (["--dataset", "cityscape"], ["--dataset", "cityscape"]),
        (["--bs_trm", "2"], ["unknown argument --bs_trm", "--bs_trn"]),
        (["--workers", "2"], ["unknown argument --workers; did you mean --num_workers?"]),
        (["--set", "MODEL.HRNET_WITH=4"], ["unknown key", "MODEL.hrnet_width"]),
        (["--set", "MODEL.hrnet_width=wide"], ["MODEL.hrnet_width=wide", "int"]),
        (["--set", "MODEL.hrnet_width=9999"], ["outside"]),
        (["--wt_bound", "2"], ["--wt_bound", "no effect without"]),
        (["--poly_step", "3"], ["--poly_step", "poly2"]),
        (["--scale_min", "3"], ["--scale_min 3", "--scale_max 2"]),
        (["--eval", "folder"], ["--eval_folder"]),
        (["--hanet", "1", "1"], ["--hanet", "5 whole numbers", "got 1 1"]),
        (["--hanet_set", "3,a,3"], ["--hanet_set", "3 whole numbers"]),
        (["--dump_attention"], ["--dump_attention", "--eval"]),
        (["--max_iter", "3", "--max_epoch", "2"], ["exclude each other"]),
        (["--dump_topn", "3"], ["--dump_topn", "--eval"]),
        (["--dump_topn", "3", "--eval", "val", "--no_metrics"], ["--dump_topn", "labels"]),
        (["--dump_topn_all", "--eval", "val"], ["--dump_topn_all", "--dump_topn N"]),
        (["--eval_f1", "--eval", "folder", "--eval_folder", "x"], ["--eval_f1", "labels"]),
        (["--eval_f1_th", "2", "--eval", "val"], ["--eval_f1_th", "--eval_f1"]),
        (["--eval_f1", "--eval_f1_th", "3,0", "--eval", "val"], ["--eval_f1_th", "above 0"]),
        (["--mod_f1"], ["--mod_f1", "labels"]),
        (["--eval_f1_start", "0", "--eval", "val", "--no_metrics"], ["--eval_f1_start", "labels"]),
        (["--eval_f1_step_size", "9", "--eval", "val"], ["--eval_f1_step_size", "start N"]),
        (["--eval_f1_labels", "raw", "--eval", "val"], ["--eval_f1_labels", "--mod_f1"]),
        (["--eval_f1_missing", "skip", "--eval", "val"], ["--eval_f1_missing", "--eval_f1"]),
        (["--eval_distance_crop", "624", "--eval", "val"], ["--eval_distance_crop", "expected 2"]),
        (["--eval_distance_crop", "9", "9"], ["--eval_distance_crop", "labels"]),
        (["--log_msinf_to_tb", "--eval", "val"], ["--multi_scale_inference"]),
        (["--param_rules", "head=10"], ["--param_rules", "'head=10'", "KEY:lr=FACTOR"]),
        (["--param_rules", "head:lr=-1"], ["--param_rules", "'head:lr=-1'"]),
        (["--param_rules", "norm:wd=0"], ["--param_rules", "'norm:wd=0'"]),
        (["--param_rules", "a:lr=2,a:decay=0"], ["the key a stands twice"]),
        (["--betas", "0.9,1"], ["--betas", "below 1"]),
        (["--betas", "0.9,0.99"], ["--betas", "--optimizer adam"]),
        (["--lr_schedule", "step"], ["--lr_step N", "--lr_by epoch"]),
        (["--lr_step", "5"], ["--lr_step", "--lr_schedule step"]),
        (["--lr_by", "iter", "--lr_schedule", "poly2"], ["--lr_schedule poly2", "poly or step"]),
        (["--lr_by", "iter", "--min_lr", "1"], ["--min_lr 1", "--lr 0.002"]),
        (["--min_lr", "1e-6"], ["--min_lr", "--lr_by iter"]),
        (["--lr_by", "iter", "--warmup_ratio", "0.1"], ["--warmup_ratio", "--warmup_iters"]),
        (["--val_iters", "5", "--val_freq", "2"], ["exclude each other"]),
        (["--rmi_loss", "--loss_average", "all"], ["--loss_average", "--rmi_loss"]),
        (["--ohem_min_kept", "5"], ["--ohem_min_kept", "--ohem_threshold"]),
        (["--average", "probs"], ["--average", "--do_flip"]),
        (["--slide_crop", "64"], ["--slide_crop", "--slide_stride"]),
        (["--slide_crop", "64", "--slide_stride", "48,80"], ["--slide_stride 48,80", "gaps"]),
        (["--slide_crop", "64", "--slide_stride", "0"], ["--slide_stride", "at least 1"]),
        (
            [
                *("--eval", "val", "--dump_topn", "2", "--dump_topn_all"),
                *("--slide_crop", "64", "--slide_stride", "48"),
            ],
            ["--dump_topn_all", "--slide_crop"],
        ),
        (["--img_scale", "512,2048"], ["--img_scale", "LONG,SHORT"]),
        (["--img_scale", "2048,512"], ["--img_scale", "--augmentation mmseg"]),
        (["--augmentation", "mmseg", "--gblur"], ["--gblur", "--augmentation hmsa"]),
        (["--augmentation", "mmseg", "--pre_size", "64"], ["--pre_size", "in training"]),
        (["--augmentation", "mmseg", "--ratio_range", "2,1"], ["--ratio_range 2,1"]),
        (["--augmentation", "mmseg", "--cat_max_ratio", "0"], ["--cat_max_ratio", "above 0"]),
        (["--size_divisor", "32"], ["--size_divisor", "--test_scale"]),
        (["--test_scale", "64,32", "--pre_size", "64"], ["--test_scale", "--pre_size"]),
        (["--set", "LOSS.BOUNDARY_WEIGHTS=1,-2,1,1"], ["BOUNDARY_WEIGHTS: -2.0", "0..1000"]),
        (["--set", "LOSS.BOUNDARY_WEIGHTS=1,1,nan,1"], ["BOUNDARY_WEIGHTS: nan", "0..1000"]),
        (["--set", "LOSS.BOUNDARY_WEIGHTS=1,1,2,1"], ["BOUNDARY_WEIGHTS", "--dt_offset_wt"]),
        (["--set", "LOSS.BOUNDARY_OFFICIAL=true"], ["BOUNDARY_OFFICIAL", "--dt_offset_wt"]),
        (["--set", "LOSS.IMAGE_MEAN=true"], ["IMAGE_MEAN has no effect", "--img_wt_loss"]),
        (["--set", "LOSS.HISTOGRAM_OFFICIAL=true"], ["HISTOGRAM_OFFICIAL", "--img_wt_loss"]),
        (
            ["--eval", "val", "--inference_mode", "sliding", "--default_scale", "0.5"],
            ["--default_scale: --inference_mode sliding"],
        ),
        (
            ["--img_wt_loss", "--rmi_loss", "--set", "LOSS.IMAGE_MEAN=true"],
            ["IMAGE_MEAN has no effect", "--rmi_loss"],
        ),
        (
            ["--eval", "val", "--eval_f1_start", "0", "--dump_for_submission"],
            ["--dump_for_submission needs all images", "--eval_f1_start"],
        ),
        (
            ["--eval", "val", "--eval_f1_start", "0", "--split_count", "2"],
            ["--eval_f1_start and --split_count", "both cut"],
        ),
        (
            ["--hanet", *"11110", "--hanet_pos", "2", "0", "--no_pos_dataset"],
            ["--hanet_pos 2 0 learns a table", "--no_pos_dataset"],
        ),
        (["--hanet_lr", "0", "--hanet_poly_exp", "0.9"], ["--hanet_lr above 0"]),
        (
            ["--set", "MODEL.batch_attention=training", "--bs_trn", "1"],
            ["batch_attention=training has no effect", "--bs_trn 2"],
        ),
        (["--refine_boundaries"], ["--refine_boundaries", "--eval"]),
    ],
)
def test_wrong_flag_is_one_line(argv: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read_settings(argv)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_a_flag_like_no_other_gets_no_suggestion() -> None:
    for flag in ("--num_classes", "--lr_rate", "--model", "--data"):
        with pytest.raises(UserError, match=f"^unknown argument {flag}$"):
            read_flags([flag, "1"])


def test_unknown_arch_names_the_nearest(tmp_path: Path, street_root: Path) -> None:
    result = run("train.py", *train_flags(street_root, tmp_path), "--arch", "ocrnet.HRNet_Mscal")
    assert_one_line_error(result, "ocrnet.HRNet_Mscal", "ocrnet.HRNet_Mscale")


def test_missing_data_root_says_where_to_set_it(tmp_path: Path) -> None:
    result = run("train.py", *train_flags(tmp_path / "absent", tmp_path / "run"))
    assert_one_line_error(result, str(tmp_path / "absent"), "SYNTHETIC_DIR")


@pytest.mark.slow
def test_image_without_label_stops_before_training(streets: Path, tmp_path: Path) -> None:
    label = first(streets, "train/*/*_gtFine_labelIds.png")
    label.unlink()
    result = run("train.py", *train_flags(streets, tmp_path / "run"))
    assert_one_line_error(result, label.name)
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.slow
def test_label_of_another_size_is_named(streets: Path, tmp_path: Path) -> None:
    label = first(streets, "train/*/*_gtFine_labelIds.png")
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(label)
    result = run("train.py", *train_flags(streets, tmp_path / "run"))
    assert_one_line_error(result, label.name, "30")


@pytest.mark.slow
def test_label_id_outside_the_map_is_counted(streets: Path, tmp_path: Path) -> None:
    label = first(streets, "train/*/*_gtFine_labelIds.png")
    ids = np.asarray(Image.open(label)).copy()
    ids[:3, :5] = 77
    Image.fromarray(ids).save(label)
    result = run("train.py", *train_flags(streets, tmp_path / "run"))
    assert_one_line_error(result, label.name, "77", "15")
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["train/*/*_leftImg8bit.png", "train/*/*_gtFine_labelIds.png"])
def test_truncated_file_is_named(streets: Path, tmp_path: Path, pattern: str) -> None:
    path = first(streets, pattern)
    path.write_bytes(path.read_bytes()[:60])
    result = run(
        "train.py", *train_flags(streets, tmp_path / "run", "--num_workers", "1", "--bs_trn", "4")
    )
    assert_one_line_error(result, path.name)


@pytest.mark.slow
def test_unwritable_result_dir_is_one_line(tmp_path: Path, street_root: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a directory")
    result = run("train.py", *train_flags(street_root, blocker / "run"))
    assert_one_line_error(result, "--result_dir", str(blocker))


@pytest.fixture(scope="module")
def trained(street_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny network."""
    directory = tmp_path_factory.mktemp("trained")
    result = run("train.py", *train_flags(street_root, directory, "--class_uniform_pct", "0"))
    assert result.returncode == 0, result.stdout + result.stderr
    return next(directory.glob("last_checkpoint_ep*.pth"))


def eval_flags(root: Path, snapshot: Path, result_dir: Path) -> list[str]:
    return [
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}", "--num_workers", "0",
        "--snapshot", str(snapshot), "--result_dir", str(result_dir),
    ]  # fmt: skip


@pytest.mark.slow
def test_checkpoint_of_another_arch_is_refused(
    trained: Path, street_root: Path, tmp_path: Path
) -> None:
    result = run("eval.py", *eval_flags(street_root, trained, tmp_path), "--arch", "ocrnet.HRNet18")
    assert_one_line_error(result, trained.name, "ocrnet.HRNet18")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_checkpoint_of_another_class_count_is_refused(
    trained: Path, camvid_root: Path, tmp_path: Path
) -> None:
    result = run(
        "eval.py", "--dataset", "camvid", "--set", f"DATASET.CAMVID_DIR={camvid_root}",
        "--snapshot", str(trained), "--result_dir", str(tmp_path),
    )  # fmt: skip
    line = assert_one_line_error(result, trained.name, "has 19 classes, camvid has 11", "synthetic")
    assert "--allow_partial" not in line


@pytest.mark.slow
def test_truncated_checkpoint_is_refused(trained: Path, street_root: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.pth"
    torn.write_bytes(trained.read_bytes()[:5000])
    result = run("eval.py", *eval_flags(street_root, torn, tmp_path / "run"))
    assert_one_line_error(result, "torn.pth")


class Payload:
    """Unpickling this would create the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_pickle_with_code_is_refused_and_not_run(street_root: Path, tmp_path: Path) -> None:
    evil, trace = tmp_path / "evil.pth", tmp_path / "code_was_run"
    torch.save({"state_dict": {"weight": torch.zeros(1)}, "extra": Payload(trace)}, evil)
    result = run("eval.py", *eval_flags(street_root, evil, tmp_path / "run"))
    assert_one_line_error(result, "evil.pth", "convert_checkpoint.py")
    assert not trace.exists()


def test_recipe_with_unknown_flag_fails_in_one_line(tmp_path: Path, street_root: Path) -> None:
    recipe = tmp_path / "typo.yml"
    recipe.write_text(
        "CMD: 'python train.py'\nHPARAMS: [{dataset: synthetic, crop_sizes: '64,64'}]\n"
    )
    (tmp_path / "logs").mkdir()
    (tmp_path / ".runx").write_text(
        f"LOGROOT: {tmp_path}/logs\nCODE_IGNORE_PATTERNS: '.git,logs'\n"
    )
    for name in ("train.py", "eval.py", "config.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("settings", "runtime", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name)
    executable = Path(command("x")[0])
    result = subprocess.run(
        [executable, "-m", "runx.runx", str(recipe), "-i"], cwd=tmp_path, text=True,
        capture_output=True, check=False, timeout=120,
        env=environment(PATH=f"{executable.parent}:{os.environ['PATH']}"),
    )  # fmt: skip
    # runx repeats stderr on stdout when the command has ended: the same line twice
    lines = {line for line in result.stdout.splitlines() if line.startswith("error: ")}
    assert lines == {"error: unknown argument --crop_sizes; did you mean --crop_size?"}
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.slow
def test_disk_full_while_saving_leaves_the_previous_checkpoint(
    street_root: Path, tmp_path: Path
) -> None:
    base = train_flags(street_root, tmp_path, "--class_uniform_pct", "0")
    assert run("train.py", *base).returncode == 0
    before = next(tmp_path.glob("last_checkpoint_ep*.pth"))
    content = before.read_bytes()
    kilobytes = len(content) // 2 // 1024
    line = " ".join(command("train.py", *base, "--resume", "auto", "--max_epoch", "2"))
    result = subprocess.run(
        ["bash", "-c", f"ulimit -f {kilobytes}; exec {line}"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert_one_line_error(result, "could not be written")
    assert before.read_bytes() == content
    assert not list(tmp_path.glob(".*.tmp"))


def test_frozen_tree_refuses_writes() -> None:
    tree = Config()
    tree.adopt(read_settings([]))
    with pytest.raises(AttributeError, match="read-only; ASSETS_PATH"):
        tree.ASSETS_PATH = "elsewhere"
    with pytest.raises(AttributeError, match="hrnet_width"):
        tree.MODEL.hrnet_width = 4
    with pytest.raises(AttributeError, match="frozen"):
        tree.adopt(read_settings([]))
