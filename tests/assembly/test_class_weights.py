# SPDX-License-Identifier: Apache-2.0
"""--class_weights: from the labels of the training set, from the command line, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly.class_weights import with_class_weights
from assembly.dataset import dataset_spec
from assembly.objective import build_objective
from assembly.sets import Sets
from config import UserError
from loss.class_weights import weights_of
from settings import Settings, read_settings


def read(root: Path, cache: Path, *flags: str) -> Settings:
    places = ["--set", f"DATASET.CAMVID_DIR={root}", "--set", f"DATASET.CENTROID_ROOT={cache}"]
    return read_settings(["--dataset", "camvid", *places, *flags])


def weighted(settings: Settings, lines: list[str]) -> Settings:
    spec = dataset_spec(settings)
    return with_class_weights(settings, spec, Sets(settings), lines.append)


def test_auto_counts_the_pixels_of_the_training_labels(camvid_root: Path, tmp_path: Path) -> None:
    settings, lines = read(camvid_root, tmp_path, "--class_weights", "auto"), list[str]()
    found = weighted(settings, lines)
    labels = [np.asarray(Image.open(item.label)) for item in Sets(settings).train]
    counts = sum(np.bincount(label.ravel(), minlength=256) for label in labels)[:11]
    assert weights_of(counts.tolist()) == found.LOSS.CLASS_WEIGHTS
    assert lines[0].startswith("class weights: Sky ") and len(lines) == 1
    objective = build_objective(found, dataset_spec(found))
    assert objective.criterion.class_weights.tolist() == pytest.approx(found.LOSS.CLASS_WEIGHTS)
    assert len(list(tmp_path.glob("*.json"))) == 1, "counted once, like every check of a set"
    assert weighted(settings, []).LOSS.CLASS_WEIGHTS == found.LOSS.CLASS_WEIGHTS


def test_numbers_are_taken_as_they_are(camvid_root: Path, tmp_path: Path) -> None:
    text = ",".join(str(number / 2) for number in range(11))
    found = weighted(read(camvid_root, tmp_path, "--class_weights", text), [])
    assert tuple(number / 2 for number in range(11)) == found.LOSS.CLASS_WEIGHTS
    assert weighted(read(camvid_root, tmp_path), []).LOSS.CLASS_WEIGHTS is None


def test_commas_without_a_number_count_as_in_every_list(camvid_root: Path, tmp_path: Path) -> None:
    text = ",".join(["1"] * 11)
    found = weighted(read(camvid_root, tmp_path, "--class_weights", f"{text},"), [])
    assert found.LOSS.CLASS_WEIGHTS == (1.0,) * 11


def test_a_wrong_number_of_weights_names_the_classes(camvid_root: Path, tmp_path: Path) -> None:
    settings = read(camvid_root, tmp_path, "--class_weights", "1,2")
    with pytest.raises(UserError, match=r"class_weights: 2 numbers, camvid has 11 classes \(Sky"):
        weighted(settings, [])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["auto", "--rmi_loss"], "no effect without training with plain cross entropy"),
        (["auto", "--img_wt_loss"], "no effect without training with plain cross entropy"),
        (["auto", "--jointwtborder"], "no effect without training with plain cross entropy"),
        (["auto", "--eval", "val"], "no effect without training with plain cross entropy"),
        (["auto", "--dataset", "cityscapes", "--cls_wt_loss"], "exclude each other"),
        (["auto", "--set", "LOSS.CLASS_WEIGHTS=1,2"], "both weight the classes"),
        (["0,0"], "one weight above 0"),
        (["automatic"], "auto or numbers wanted: automatic is not a comma list of numbers"),
        (["1,-1"], "at least 0"),
    ],
)
def test_what_it_cannot_be(flags: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_settings(["--class_weights", *flags])


def test_images_without_labels_have_no_weights() -> None:
    flags = ["--dataset", "nullloader", "--class_uniform_pct", "0", "--class_weights", "auto"]
    with pytest.raises(UserError, match="class_weights auto: --dataset nullloader has no labels"):
        weighted(read_settings(flags), [])
