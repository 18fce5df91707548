# SPDX-License-Identifier: Apache-2.0
"""A flag and a data set, added to a copy of the tree as docs/extending.md says, work everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.extending import copy_tree, follow, patched, run_in
from tests.program import ROOT, TINY, assert_one_line_error, street_flags

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BATCHES = ["--crop_size", "64,64", "--bs_trn", "2", "--class_uniform_tile", "32"]
CHAIN = """\
from assembly.data import train_transform
from datasets.synthetic import SPEC
from settings import read_settings

for told in ([], ["--mirror_prob", "0.25"]):
    print([step.probability for step in train_transform(read_settings(told), SPEC).transforms
           if hasattr(step, "probability")])
"""


@pytest.fixture(scope="module")
def with_flag(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A tree with the flag, and the files that it took."""
    tree = copy_tree(tmp_path_factory.mktemp("flag") / "tree")
    return tree, follow(PAGE, "A flag", tree)


@pytest.fixture(scope="module")
def with_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A tree with the data set, and the files that it took."""
    tree = copy_tree(tmp_path_factory.mktemp("set") / "tree")
    return tree, follow(PAGE, "A data set", tree)


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images to train on and two to validate with: water below, a quay, a ship, some void."""
    root, rng = tmp_path_factory.mktemp("harbour"), np.random.default_rng(0)
    colours = np.array([[0, 80, 160], [140, 140, 140], [200, 40, 40]])
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((96, 96), np.uint8)
            mask[:30] = 1
            mask[40:60, 10 * number : 10 * number + 30] = 2
            image = colours[mask] + rng.integers(-20, 20, (96, 96, 3))
            mask[-4:] = 255
            image = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
            image.save(root / split / "images" / f"{number}.jpg")
            Image.fromarray(mask).save(root / split / "masks" / f"{number}.png")
    return root


def test_a_data_set_is_a_module_and_a_row(with_set: tuple[Path, list[str]]) -> None:
    assert with_set[1] == ["datasets/harbour.py", "datasets/table.py"]


def test_a_flag_is_a_field_and_its_use(with_flag: tuple[Path, list[str]]) -> None:
    declared, *use = with_flag[1]
    assert declared == "settings/augmentation.py"
    assert use == ["transforms/joint.py", "transforms/pipeline.py", "assembly/data.py"]


def test_the_new_data_set_is_a_choice_and_has_a_key(with_set: tuple[Path, list[str]]) -> None:
    tree, _ = with_set
    assert "harbour" in run_in(tree, "train.py", "--help").stdout
    assert run_in(tree, "-m", "scripts.make_flag_docs", "docs/flags.md").returncode == 0
    page = (tree / "docs" / "flags.md").read_text(encoding="utf-8")
    assert "| `DATASET.HARBOUR_DIR` | - | holds {train,val}/images/ {train,val}/masks/ |" in page
    refused = run_in(tree, "train.py", "--dataset", "harbour", "--city_mode", "trainval")
    assert_one_line_error(refused, "--city_mode has no effect without --dataset cityscapes or")


@pytest.mark.slow
def test_the_new_data_set_can_be_checked(with_set: tuple[Path, list[str]], harbour: Path) -> None:
    check = ["-m", "tools.check", "--dataset", "harbour"]
    done = run_in(with_set[0], *check, "--set", f"DATASET.HARBOUR_DIR={harbour}")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("train", "val", "water", "quay", "ship"):
        assert word in done.stdout
    refused = run_in(with_set[0], *check)
    assert_one_line_error(refused, "DATASET.HARBOUR_DIR is not set", "HISEG_HARBOUR_DIR")
    refused = run_in(
        with_set[0], *check, "--set", f"DATASET.HARBOUR_DIR={harbour}", "--split", "test"
    )
    assert refused.returncode == 2
    assert "harbour has no split test; it has train and val" in refused.stdout


@pytest.mark.slow
def test_the_new_data_set_trains(
    with_set: tuple[Path, list[str]], harbour: Path, tmp_path: Path
) -> None:
    done = run_in(
        with_set[0], "train.py", *TINY, *BATCHES, "--dataset", "harbour",
        "--set", f"DATASET.HARBOUR_DIR={harbour}", "--set", f"DATASET.CENTROID_ROOT={tmp_path}/c",
        "--max_epoch", "1", "--num_workers", "0", "--result_dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["data"]["train"]["images"] == 4 and facts["data"]["val"]["images"] == 2
    assert facts["config"]["DATASET"]["HARBOUR_DIR"] == str(harbour)
    assert "mean_iu" in (tmp_path / "run" / "metrics.csv").read_text()


def test_the_new_flag_is_shown_and_its_values_are_checked(
    with_flag: tuple[Path, list[str]],
) -> None:
    tree, _ = with_flag
    assert "probability of mirroring" in run_in(tree, "train.py", "--help").stdout
    assert run_in(tree, "-m", "scripts.make_flag_docs", "docs/flags.md").returncode == 0
    page = (tree / "docs" / "flags.md").read_text(encoding="utf-8")
    assert "| `--mirror_prob` | number 0 to 1 | 0.5 | probability of mirroring |" in page
    refused = run_in(tree, "train.py", "--mirror_prob", "1.5")
    assert_one_line_error(refused, "--mirror_prob", "1.5")
    refused = run_in(tree, "train.py", "--augmentation", "mmseg", "--mirror_prob", "0.3")
    assert_one_line_error(refused, "--mirror_prob has no effect without --augmentation hmsa")


@pytest.mark.slow
def test_the_new_flag_is_used_recorded_and_compared_when_a_run_goes_on(
    with_flag: tuple[Path, list[str]], street_root: Path, tmp_path: Path
) -> None:
    tree, _ = with_flag
    assert run_in(tree, "-c", CHAIN).stdout == "[0.5]\n[0.25]\n"
    flags = [*TINY, *BATCHES, *street_flags(street_root, tmp_path)]
    first = run_in(tree, "train.py", *flags, "--mirror_prob", "0", "--max_iter", "4")
    assert first.returncode == 0, first.stdout + first.stderr
    assert json.loads((tmp_path / "run.json").read_text())["flags"]["mirror_prob"] == 0
    more = ["--mirror_prob", "1", "--max_iter", "8", "--resume", "auto"]
    second = run_in(tree, "train.py", *flags, *more)
    assert second.returncode == 0, second.stdout + second.stderr
    lines = [line for line in second.stdout.splitlines() if "resumed with another setting" in line]
    assert any("mirror_prob" in line for line in lines), second.stdout


def test_a_recipe_that_no_longer_fits_is_found() -> None:
    assert patched("a\nb\nc\n", " a\n-b\n+d\n") == "a\nd\nc\n"
    for source in ("a\nc\n", "a\nb\na\nb\n"):
        with pytest.raises(AssertionError, match="stand there [02] times"):
            patched(source, " a\n-b\n+d\n")
