# SPDX-License-Identifier: Apache-2.0
"""Coarse and auto-labelled images: where labels come from, which rules hold, who is drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly import data, sets
from config import UserError
from datasets import autolabel, cityscapes
from datasets.base import read_item_label
from datasets.cityscapes import SPEC
from datasets.samplers import TrainSampler
from datasets.spec import AutoLabel
from datasets.synthetic import AUTO_ROOT, ScenePlan, write_synthetic
from datasets.uniform import EpochPlan
from settings import Settings, read_settings

ROAD, TRUCK, CARAVAN, BUS, VOID = 7, 27, 29, 28, 255
NUM_FINE = 40


@pytest.fixture(scope="module")
def extra_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("extra")
    write_synthetic(root, ScenePlan(size=(32, 64), train=NUM_FINE, val=2, test=1, coarse=6))
    return root


@pytest.fixture
def extra(extra_root: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    no_cache = shutil.ignore_patterns("centroids")
    return Path(shutil.copytree(extra_root, tmp_path / "set", ignore=no_cache))


def settings(root: Path, *argv: str, auto: bool = False) -> Settings:
    more = ["--set", f"DATASET.CITYSCAPES_CUSTOMCOARSE={root / AUTO_ROOT}"] if auto else []
    return read_settings([
        "--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={root}", "--crop_size", "32,32",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--num_workers", "0",
        "--class_uniform_tile", "32", *more, *argv,
    ])  # fmt: skip


def make_sampler(root: Path, *argv: str, auto: bool = False) -> TrainSampler:
    told = settings(root, *argv, auto=auto)
    loader, sampler, _ = data.make_train_loader(told, 0, 1, 0)
    batch = next(iter(loader))
    assert batch.labels is not None
    return sampler


def coarse_draws(sampler: TrainSampler, epoch: int) -> int:
    sampler.set_epoch(epoch)
    return sum(draw.index >= NUM_FINE for draw in sampler)


def a_file(root: Path, pattern: str) -> Path:
    return sorted(root.glob(pattern))[0]


@pytest.mark.parametrize("auto", [False, True])
def test_boost_draws_coarse_images_until_max_cu_epoch_and_keeps_the_length(
    extra_root: Path, auto: bool
) -> None:
    plain = make_sampler(extra_root, "--class_uniform_pct", "1")
    boosted = make_sampler(
        extra_root, "--class_uniform_pct", "1", "--coarse_boost_classes", "0,2,8,10",
        "--max_cu_epoch", "3", auto=auto,
    )  # fmt: skip
    assert sum(coarse_draws(boosted, epoch) for epoch in range(3)) > 0
    assert len(boosted) == len(plain)
    for epoch in (3, 4):
        assert coarse_draws(boosted, epoch) == 0
        plain.set_epoch(epoch)
        assert list(boosted) == list(plain)


def test_whole_image_draws_stay_with_the_fine_images(extra_root: Path) -> None:
    sampler = make_sampler(extra_root, "--coarse_boost_classes", "0,2,8,10")
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert all(draw.centroid is not None for draw in sampler if draw.index >= NUM_FINE)


def test_boundary_files_of_coarse_images_are_not_asked_for(extra_root: Path) -> None:
    argv = ("--only_coarse", "--class_uniform_pct", "1", "--dt_offset_wt", "1")
    with pytest.raises(UserError, match="no boundary files of coarse images"):
        make_sampler(extra_root, *argv, "--dt_offset_source", "files")
    make_sampler(extra_root, *argv)


def test_only_coarse_draws_no_class_from_fine_images(extra_root: Path) -> None:
    sampler = make_sampler(extra_root, "--only_coarse", "--class_uniform_pct", "1")
    with_class = [draw.index for draw in sampler if draw.centroid is not None]
    assert with_class and min(with_class) >= NUM_FINE


def test_listed_classes_alone_gain_points() -> None:
    fine, coarse = {0: [(0, 1, 1)], 1: [(1, 2, 2)]}, {0: [(0, 3, 3)], 1: [(1, 4, 4)]}
    facts = {"num_fine": 2, "fine": fine, "coarse": coarse, "pct": 1.0, "num_classes": 2, "seed": 0}
    plan = EpochPlan(**facts, boost=(1,), max_cu_epoch=1)
    assert plan.centroids(0) == {0: [(0, 1, 1)], 1: [(1, 2, 2), (3, 4, 4)]}
    assert plan.centroids(1) == fine == {0: [(0, 1, 1)], 1: [(1, 2, 2)]}
    only = EpochPlan(**facts, only_coarse=True, max_cu_epoch=1)
    assert only.centroids(0) == {0: [(2, 3, 3)], 1: [(3, 4, 4)]}


def test_rules_follow_the_configured_root_whatever_its_name(extra: Path) -> None:
    argv = ["--coarse_boost_classes", "0", "--custom_coarse_prob", "0.9"]
    told = settings(extra, *argv, auto=True)
    item = sets.coarse_items(told, SPEC)[0]
    target = read_item_label(item, SPEC)
    prob = np.asarray(Image.open(extra / AUTO_ROOT / f"{item.name}_prob.png"))
    assert (target[prob / 255 < 0.9] == VOID).all()
    renamed = (extra / AUTO_ROOT).rename(extra / "vidseq_refinement")
    told = settings(extra, *argv, "--set", f"DATASET.CITYSCAPES_CUSTOMCOARSE={renamed}", auto=True)
    again = sets.coarse_items(told, SPEC)[0]
    assert np.array_equal(read_item_label(again, SPEC), target)


def by_definition(ids: np.ndarray, coarse: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """The union as the published program words it: one array, changed pixel by pixel."""
    array = [[("id", int(value)) for value in row] for row in ids]
    for raw, train_id in SPEC.id_to_train_id.items():
        present = any(pixel == ("id", raw) for row in array for pixel in row)
        union = train_id in classes and present
        for y, row in enumerate(array):
            for x, pixel in enumerate(row):
                if pixel == ("id", raw) or (union and coarse[y, x] == raw):
                    row[x] = ("train id", train_id)
    return np.array([[value for _, value in row] for row in array], np.uint8)


def test_the_annotators_class_wins_over_a_later_one_of_the_network() -> None:
    ids = np.array([[27, 28, 31, 33, 32, 29]], np.uint8)
    coarse = np.array([[27, 27, 27, 28, 31, 27]], np.uint8)
    rules = AutoLabel(union_classes=(14, 15, 16))
    target = autolabel.train_ids(ids, None, coarse, SPEC, rules)
    assert target.tolist() == [[14, 14, 14, 18, 17, 14]]


@pytest.mark.parametrize("classes", [(14, 15, 16), (0, 5, 18), (16,), tuple(range(19)), ()])
def test_the_union_walks_one_array_in_the_order_of_the_table(classes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(classes))
    for most in (3, 34):  # few ids: some are gone before their turn; many: all are there
        pool = rng.choice(34, most, replace=False)
        ids, coarse = (rng.choice(pool, (12, 16)).astype(np.uint8) for _ in range(2))
        target = autolabel.train_ids(ids, None, coarse, SPEC, AutoLabel(union_classes=classes))
        assert np.array_equal(target, by_definition(ids, coarse, classes))


def test_the_annotators_fill_what_is_masked_out_and_unsure_pixels_go_last() -> None:
    ids = np.full((128, 256), TRUCK, np.uint8)
    coarse, prob = ids.copy(), np.full_like(ids, 255)
    prob[64] = 100
    rules = AutoLabel(threshold=0.5, union_classes=(14,), mask_out=True)
    target = autolabel.train_ids(ids, prob, coarse, SPEC, rules)
    assert (np.delete(target, 64, 0) == 14).all()
    assert (target[64] == 255).all()


def test_union_adds_coarse_pixels_of_classes_the_network_found() -> None:
    ids = np.array([[TRUCK, ROAD, CARAVAN, BUS]], np.uint8)
    coarse = np.full_like(ids, TRUCK)
    prob = np.full_like(ids, 255)
    truck = SPEC.id_to_train_id[TRUCK]
    rules = AutoLabel(threshold=0.5, union_classes=(truck,))
    target = autolabel.train_ids(ids, prob, coarse, SPEC, rules)
    assert target.tolist() == [[truck, truck, truck, truck]]
    ids[0, 0] = ROAD  # the class is not in the auto label: nothing is added
    assert truck not in autolabel.train_ids(ids, prob, coarse, SPEC, rules)


def test_mask_out_keeps_the_scaled_rectangle() -> None:
    ids = np.full((128, 256), ROAD, np.uint8)
    target = autolabel.train_ids(ids, None, None, SPEC, AutoLabel(mask_out=True))
    rows, cols = np.nonzero(target == 0)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (2, 104, 2, 253)


def test_another_threshold_is_another_cache(extra: Path) -> None:
    for prob in ("0.5", "0.9"):
        make_sampler(extra, "--coarse_boost_classes", "0", "--custom_coarse_prob", prob, auto=True)
    assert len(list((extra / "centroids").glob("synthetic_tile32_*.json"))) == 3


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--coarse_boost_classes", "3,19"], ["--coarse_boost_classes", "no class 19", "0..18"]),
        (["--coarse_boost_classes=-1"], ["--coarse_boost_classes", "-1 must be at least 0"]),
        (
            ["--coarse_boost_classes", "3", "--custom_coarse_dropout_classes", "99"],
            ["--custom_coarse_dropout_classes", "no class 99"],
        ),
        (
            ["--coarse_boost_classes", "3", "--custom_coarse_prob", "0.5"],
            ["--custom_coarse_prob", "CITYSCAPES_CUSTOMCOARSE"],
        ),
        (["--custom_coarse_prob", "0.5"], ["--custom_coarse_prob has no effect without"]),
        (["--only_coarse", "--class_uniform_pct", "0"], ["--only_coarse has no effect without"]),
        (["--only_coarse", "--coarse_boost_classes", "3"], ["exclude each other"]),
    ],
)
def test_flags_that_do_not_fit_are_one_line(
    extra_root: Path, argv: list[str], words: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        make_sampler(extra_root, *argv)
    assert "\n" not in str(raised.value)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (f"{AUTO_ROOT}/train_extra/*/*_prob.png", "its probability .*_prob.png is missing"),
        (f"{AUTO_ROOT}/train_extra/*/*Img8bit.png", "its auto label .* is missing"),
        ("gtCoarse/gtCoarse/train_extra/*/*.png", "its coarse label .* is missing"),
    ],
)
def test_missing_file_names_image_and_file(extra: Path, pattern: str, words: str) -> None:
    a_file(extra, pattern).unlink()
    with pytest.raises(UserError, match=words):
        make_sampler(
            extra, "--coarse_boost_classes", "3", "--custom_coarse_prob", "0.5",
            "--custom_coarse_dropout_classes", "14", auto=True,
        )  # fmt: skip


def test_empty_coarse_split_is_one_line(extra: Path) -> None:
    for path in extra.glob("leftImg8bit_trainextra/leftImg8bit/train_extra/*/*.png"):
        path.unlink()
    with pytest.raises(UserError, match="the coarse split is empty"):
        make_sampler(extra, "--only_coarse")


def test_parts_of_different_size_stop_before_training(extra: Path) -> None:
    path = a_file(extra, f"{AUTO_ROOT}/train_extra/*/*_prob.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    with pytest.raises(UserError, match=rf"{path.name} is 8x8, but .* is 64x32"):
        make_sampler(extra, "--only_coarse", "--custom_coarse_prob", "0.5", auto=True)


def test_unknown_id_in_an_auto_label_is_counted(extra: Path) -> None:
    path = a_file(extra, f"{AUTO_ROOT}/train_extra/*/*Img8bit.png")
    Image.fromarray(np.full((32, 64), 77, np.uint8)).save(path)
    with pytest.raises(UserError, match=rf"{path.name}: label id 77 \(2048 pixels\)"):
        make_sampler(extra, "--only_coarse", auto=True)


def test_extra_images_are_listed_with_their_folder_and_without_labels(extra_root: Path) -> None:
    items = cityscapes.list_extra(extra_root)
    assert len(items) == 6
    assert all(item.name.startswith("train_extra/") and item.label is None for item in items)
