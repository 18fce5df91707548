# SPDX-License-Identifier: Apache-2.0
"""Teacher, auto-labels, student: the whole loop from the command line, on the synthetic set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly.sets import coarse_items
from datasets import cityscapes
from datasets.base import read_item_label
from datasets.synthetic import SPEC, ScenePlan, write_synthetic
from settings import read_settings
from tests.program import TINY, run

pytestmark = pytest.mark.slow

NUM_EXTRA = 5
EVERY_CLASS = ",".join(str(number) for number in range(19))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extra")
    write_synthetic(folder, ScenePlan(size=(64, 128), train=24, val=2, test=1, coarse=NUM_EXTRA))
    return folder


def train_flags(root: Path, directory: Path, *more: str) -> list[str]:
    return [
        *TINY, "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--class_uniform_tile", "64",
        "--crop_size", "64,96", "--num_workers", "0", "--max_epoch", "2", "--lr", "0.02",
        "--class_uniform_pct", "1", "--result_dir", str(directory), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def teacher(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("teacher")
    result = run("train.py", *train_flags(root, directory))
    assert result.returncode == 0, result.stdout + result.stderr
    return next(directory.glob("best_checkpoint_ep*.pth"))


def label_flags(root: Path, teacher: Path, out: Path) -> list[str]:
    return [
        "eval.py", "--eval", "train_extra", "--dataset", "synthetic", "--snapshot", str(teacher),
        "--set", f"DATASET.SYNTHETIC_DIR={root}", "--dump_for_auto_labelling", "--num_workers", "1",
        "--custom_coarse_prob", "0.1", "--result_dir", str(out),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def labels(root: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the auto-labels, written by two ranks."""
    out = tmp_path_factory.mktemp("labels")
    result = run(*label_flags(root, teacher, out), ranks=2)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


def test_every_extra_image_has_ids_and_confidence_and_the_page_counts_them(
    root: Path, labels: Path
) -> None:
    for item in cityscapes.list_extra(root):
        ids, prob = (np.asarray(Image.open(labels / f"{item.name}{end}.png"))
                     for end in ("", "_prob"))  # fmt: skip
        assert ids.shape == prob.shape == (64, 128)
        assert set(np.unique(ids)) <= set(SPEC.train_id_to_id)
    page = (labels / "autolabels.html").read_text()
    assert f'<span class="value">{NUM_EXTRA}</span>' in page
    assert '<span class="value" id="shown">0.10</span>' in page


def test_interrupted_labelling_goes_on_with_what_is_missing(
    root: Path, teacher: Path, labels: Path
) -> None:
    pictures = sorted(labels.glob("train_extra/*/*.png"))
    content, times = pictures[0].read_bytes(), [path.stat().st_mtime_ns for path in pictures[2:]]
    pictures[0].unlink()
    result = run(*label_flags(root, teacher, labels))
    assert result.returncode == 0, result.stdout + result.stderr
    assert pictures[0].read_bytes() == content
    assert [path.stat().st_mtime_ns for path in pictures[2:]] == times
    assert f'<span class="value">{NUM_EXTRA}</span>' in (labels / "autolabels.html").read_text()


def test_student_trains_on_the_labels_of_the_teacher(
    root: Path, labels: Path, tmp_path: Path
) -> None:
    flags = [
        "--set", f"DATASET.CITYSCAPES_CUSTOMCOARSE={labels}", "--coarse_boost_classes", EVERY_CLASS,
        "--custom_coarse_dropout_classes", "14,15,16", "--custom_coarse_prob", "0.1",
        "--mask_out_cityscapes", "--max_cu_epoch", "1",
    ]  # fmt: skip
    result = run("train.py", *train_flags(root, tmp_path / "run", *flags))
    assert result.returncode == 0, result.stdout + result.stderr
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert (data["train"]["images"], data["coarse"]["images"]) == (24, NUM_EXTRA)
    told = read_settings(train_flags(root, tmp_path, *flags))
    targets = [read_item_label(item, SPEC) for item in coarse_items(told, SPEC)]
    assert all((target != SPEC.ignore_label).any() for target in targets)
    assert list((tmp_path / "run").glob("best_checkpoint_ep*.pth"))
