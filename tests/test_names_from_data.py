# SPDX-License-Identifier: Apache-2.0
"""Names of classes and sets in a YAML file or a checkpoint: text on pages, never a way out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.datasets.test_verify import write_set
from tests.program import TINY, run

pytestmark = pytest.mark.slow

EVIL, SCRIPT = "../../evil", "<script>alert(1)</script>"


def outside(root: Path, inside: Path) -> set[Path]:
    """Every path below `root` that is not part of `inside`."""
    own = {inside, *inside.parents}
    return {path for path in root.rglob("*") if path not in own and inside not in path.parents}


def assert_harmless(directory: Path) -> None:
    """No page of a run has a script of the names, and there is a page."""
    pages = list(directory.rglob("*.html"))
    assert pages
    for page in pages:
        assert SCRIPT not in page.read_text(encoding="utf-8")


def test_names_lead_to_no_file_outside_of_the_result_directory(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", "png", names=[EVIL, SCRIPT], name=EVIL)
    box = tmp_path / "box"
    run_dir, val, folder = (box / name / "x" / "run" for name in ("train", "val", "folder"))
    data = [
        "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={root}/set.yml",
        "--set", f"DATASET.CENTROID_ROOT={run_dir}/centroids", "--num_workers", "0",
    ]  # fmt: skip
    training = ["--crop_size", "64,64", "--class_uniform_tile", "64", "--bs_trn", "2"]
    before = outside(tmp_path, box)
    result = run(
        "train.py", *TINY, *data, *training, "--max_epoch", "1", "--result_dir", str(run_dir)
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert outside(box, run_dir) == set()

    snapshot = next(run_dir.glob("last_checkpoint_ep*.pth"))
    content = torch.load(snapshot, weights_only=True)
    assert content["class_names"][0] == EVIL
    result = run(
        "eval.py", *data, "--snapshot", str(snapshot), "--result_dir", str(val),
        "--dump_assets", "--dump_all_images", "--dump_topn", "1", "--dump_for_submission",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert_harmless(val)

    named = tmp_path / "named.pth"
    torch.save({**content, "dataset": "../../../evil", "palette": [[255, 0, 0]] * 2}, named)
    result = run(
        "eval.py", "--snapshot", str(named), "--eval", "folder", "--num_workers", "0",
        "--eval_folder", str(root / "val" / "i"), "--dump_assets", "--result_dir", str(folder),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert_harmless(folder)
    known = {run_dir, val, folder, *run_dir.parents, *val.parents, *folder.parents}
    for path in box.rglob("*"):
        assert path in known or known & set(path.parents) & {run_dir, val, folder}
    assert outside(tmp_path, box) == before | {named}
