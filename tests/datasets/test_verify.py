# SPDX-License-Identifier: Apache-2.0
"""What a training knows of its data before step 1, and that old knowledge is never trusted."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import yaml

from assembly import data
from assembly.sets import Sets
from config import UserError
from datasets import verify
from datasets.base import DataError, read_image
from datasets.completeness import check_whole
from datasets.spec import Item
from settings import Settings, read_settings
from tests.datasets.conftest import save
from tools.check import main as check


def write_set(root: Path, end: str = "jpg", count: int = 4, **changes: object) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for number in range(count):
            pixels = rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)
            ids = np.zeros((64, 96), np.uint8)
            ids[10:30], ids[:2] = 1, 255
            save(root / split / "i" / f"im{number}.{end}", pixels)
            save(root / split / "m" / f"im{number}.png", ids)
    splits = {name: {"images": f"{name}/i", "labels": f"{name}/m"} for name in ("train", "val")}
    tree = {"names": ["a", "b"], "splits": splits, **changes}
    (root / "set.yml").write_text(yaml.safe_dump(tree))
    return root


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_set(tmp_path)


def settings(root: Path, *argv: str) -> Settings:
    return read_settings([
        "--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={root}/set.yml", "--num_workers", "0",
        "--set", f"DATASET.CENTROID_ROOT={root}/centroids", "--crop_size", "32,32",
        "--class_uniform_tile", "32", *argv,
    ])  # fmt: skip


def start(root: Path, *argv: str) -> list[str]:
    """The lines of a start of a training, up to step 1."""
    lines: list[str] = []
    told = settings(root, *argv)
    data.make_train_loader(told, 0, 1, 0, lines.append)
    return lines


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("end", ["jpg", "png", "webp", "tif", "bmp", "gif"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_was_cut_off_is_known_before_step_1(
    tmp_path: Path, end: str, split: str
) -> None:
    root = write_set(tmp_path, end)
    start(root)
    cut(root / split / "i" / f"im1.{end}")
    with pytest.raises(UserError, match=rf"{split}/i/im1\.{end}: image cannot be read"):
        start(root)


@pytest.mark.parametrize(
    ("pixels", "photometric"),
    [
        (np.full((64, 96), -5, np.int16), "minisblack"),
        (np.full((64, 96), 200, np.float32), "minisblack"),
        (np.full((64, 96, 3), np.nan, np.float32), "rgb"),
        (np.zeros((64, 96, 5), np.uint8), "rgb"),
        (np.zeros((64, 96), np.complex64), "minisblack"),
    ],
    ids=["signed", "beyond 1", "no numbers", "five bands", "complex"],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_samples_that_are_not_read_are_known_before_step_1(
    tmp_path: Path, pixels: npt.NDArray[np.generic], photometric: str, split: str
) -> None:
    root = write_set(tmp_path / "set", "tif")
    path = root / split / "i" / "im2.tif"
    tifffile.imwrite(path, pixels, photometric=photometric, planarconfig="contig")
    with pytest.raises(DataError, match="im2.tif: image ") as found:
        start(root)
    has_range = "range:" in str(found.value)
    assert has_range == (pixels.ndim == 2 and pixels.dtype != np.complex64), found.value


def test_whole_files_pass_whatever_stands_behind_their_end(tmp_path: Path) -> None:
    for end in ("jpg", "png", "webp", "tif", "bmp", "gif"):
        path = tmp_path / f"a.{end}"
        save(path, np.zeros((20, 30, 3), np.uint8))
        check_whole(Item(name="a", image=path, label=None))
    path = tmp_path / "a.jpg"
    path.write_bytes(path.read_bytes() + b"trailer of a camera" * 20)
    assert read_image(path).shape == (20, 30, 3)
    check_whole(Item(name="a", image=path, label=None))
    with pytest.raises(DataError, match=r"absent\.png: image cannot be read"):
        check_whole(Item(name="a", image=tmp_path / "absent.png", label=None))


def test_all_bad_files_are_named_and_can_be_left_out(pairs: Path, tmp_path: Path) -> None:
    cut(pairs / "train/i/im0.jpg")
    cut(pairs / "val/i/im3.jpg")
    save(pairs / "train/m/im2.png", np.full((64, 96), 9, np.uint8))
    save(pairs / "train/m/im3.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(UserError, match=r"im0\.jpg.*2 more have faults: im2\.jpg, im3\.jpg") as one:
        start(pairs)
    assert "DATASET.SKIP_LIST" in str(one.value)
    bad = tmp_path / "bad.txt"
    assert check(
        ["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={pairs}/set.yml"]
        + ["--write_skip_list", str(bad)]
    )
    lines = start(pairs, "--set", f"DATASET.SKIP_LIST={bad}")
    assert lines[:3] == [
        "train 1 image, val 3 images",
        f"train: 3 images are left out by {bad}",
        f"val: 1 image is left out by {bad}",
    ]


@pytest.mark.parametrize("entry", ["im1", "im1.jpg", "train/i/im1.jpg", "./train/m/im1.png"])
def test_a_skip_list_takes_names_and_paths(pairs: Path, tmp_path: Path, entry: str) -> None:
    (tmp_path / "skip.txt").write_text(f"{entry}\nnot_there.png\n")
    if "/m/" not in entry:  # a label that is not there has no path
        (pairs / "train/m/im1.png").unlink()
    lines = start(pairs, "--set", f"DATASET.SKIP_LIST={tmp_path}/skip.txt")
    assert f"train: 1 image is left out by {tmp_path}/skip.txt" in lines
    unknown = [line for line in lines if line.startswith("warning") and "skip.txt" in line]
    assert len(unknown) == 1 and "1 entry means no image of this run (not_there.png)" in unknown[0]


def test_an_evaluation_skips_too(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "skip.txt").write_text("val/i/im1\n")
    told = settings(pairs, "--eval", "val", "--set", f"DATASET.SKIP_LIST={tmp_path}/skip.txt")
    assert [item.name for item in Sets(told).evaluated] == ["im0", "im2", "im3"]


def test_a_skip_list_that_leaves_nothing_is_an_error(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "skip.txt").write_text("\n".join(f"im{number}" for number in range(4)))
    with pytest.raises(UserError, match="all 4 images of the split are left out"):
        start(pairs, "--set", f"DATASET.SKIP_LIST={tmp_path}/skip.txt")
    with pytest.raises(UserError, match=r"absent\.txt: the list cannot be read"):
        start(pairs, "--set", f"DATASET.SKIP_LIST={tmp_path}/absent.txt")


def test_sizes_that_cannot_share_a_batch_are_known_before_step_1(pairs: Path) -> None:
    for kind, end, shape in (("i", "jpg", (56, 80, 3)), ("m", "png", (56, 80))):
        save(pairs / f"val/{kind}/im1.{end}", np.zeros(shape, np.uint8))
    start(pairs)
    start(pairs, "--bs_val", "2", "--map_crop_val")
    for argv in (["--bs_val", "2"], ["--bs_val", "2", "--pre_size", "100"]):
        with pytest.raises(UserError, match=r"im0 .* im1 .*different sizes.*--bs_val 1"):
            start(pairs, *argv)
    told = settings(pairs, "--eval", "val", "--bs_val", "2")
    sets = Sets(told)
    with pytest.raises(UserError, match="different sizes"):
        data.make_eval_loader(told, data.dataset_spec(told), 0, 1, sets.evaluated)


def test_sizes_of_whole_training_images_too(pairs: Path) -> None:
    for kind, end, shape in (("i", "jpg", (56, 80, 3)), ("m", "png", (56, 80))):
        save(pairs / f"train/{kind}/im1.{end}", np.zeros(shape, np.uint8))
    start(pairs, "--bs_trn", "2")
    start(pairs, "--bs_trn", "1", "--full_crop_training")
    with pytest.raises(UserError, match="different sizes"):
        start(pairs, "--bs_trn", "2", "--full_crop_training")


def test_one_class_is_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path, names=["thing"], ids={0: 0, 1: 0, 255: 255})
    with pytest.raises(UserError, match="names holds one class, thing.*background"):
        start(root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_without_a_pixel_that_counts_are_refused(pairs: Path, split: str) -> None:
    for path in (pairs / split / "m").iterdir():
        save(path, np.full((64, 96), 255, np.uint8))
    for _ in range(2):  # what the cache holds says the same
        with pytest.raises(UserError, match=f"{split}: no pixel of the 4 labels counts"):
            start(pairs)


def test_odd_labels_are_a_line_of_every_start(pairs: Path) -> None:
    (pairs / "set.yml").write_text((pairs / "set.yml").read_text().replace("- b", "- b\n- c"))
    expected = [f"warning: {split}: no pixel of c in the labels" for split in ("train", "val")]
    for _ in range(2):
        assert [line for line in start(pairs) if "no pixel" in line] == expected
    for path in (pairs / "train/m").iterdir():
        ids = np.zeros((64, 96), np.uint8)
        ids[5:9] = 255
        save(path, ids)
    lines = start(pairs)
    assert any("every labelled pixel is a, there is none of b, c" in line for line in lines)
    assert any("train: every label holds only 0 and 255" in line for line in lines)


def test_what_was_found_is_used_while_the_files_stay(pairs: Path) -> None:
    start(pairs)
    cache = sorted((pairs / "centroids").glob("*_verified_*.json"))
    assert len(cache) == 2
    before = [path.stat().st_mtime_ns for path in cache]
    start(pairs)
    assert [path.stat().st_mtime_ns for path in cache] == before
    image = pairs / "val/i/im0.jpg"
    stat = image.stat()
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    start(pairs)
    assert len(list((pairs / "centroids").glob("*_verified_*.json"))) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": "x"}', "null", "\x00"])
def test_a_torn_cache_is_not_trusted(pairs: Path, text: str) -> None:
    start(pairs)
    for path in (pairs / "centroids").glob("*_verified_*.json"):
        path.write_text(text)
    cut(pairs / "train/i/im0.jpg")
    with pytest.raises(UserError, match="im0"):
        start(pairs)


def test_another_map_reads_the_labels_again(pairs: Path) -> None:
    start(pairs)
    tree = yaml.safe_load((pairs / "set.yml").read_text())
    (pairs / "set.yml").write_text(yaml.safe_dump({**tree, "ids": {0: 0, 2: 1, 255: 255}}))
    with pytest.raises(UserError, match="label id 1"):
        start(pairs)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_costs_one_line(
    pairs: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lines = start(pairs)
    assert [line for line in lines if "cannot be locked" in line] == [
        f"{pairs}/centroids: cannot be locked ({os.strerror(code)}); going on without a lock"
    ]


def test_a_name_of_the_user_leads_to_no_other_folder(tmp_path: Path) -> None:
    root = write_set(tmp_path / "a" / "b", name="../../out")
    start(root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]


def test_a_split_that_a_custom_set_lacks_is_no_problem(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={pairs}/set.yml"]
    assert check(argv) == 0
    assert "0 problems" in capsys.readouterr().out
    assert check([*argv, "--split", "test"]) == 2


def test_labels_that_are_not_known_are_not_called_ignored(
    pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in pairs.glob("*/m/*.png"):
        save(path, np.full((64, 96), 7, np.uint8))
    assert check(["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={pairs}/set.yml"]) == 2
    out = capsys.readouterr().out
    assert "8 problems, 0 notes" in out and "label id 7" in out, out


def test_check_counts_what_is_left_aside(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pairs / "train/i/im0.jpg").rename(pairs / "train/i/im0.heic")
    assert check(["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={pairs}/set.yml"]) == 0
    text = capsys.readouterr().out
    assert "train: 1 label has no image (im0)" in text
    assert "1 file is ignored, its ending is not known: 1 .heic" in text


def test_a_set_moved_elsewhere_has_the_same_fingerprint(pairs: Path) -> None:
    told = settings(pairs)
    items = Sets(told).train
    spec = data.dataset_spec(told)
    found = verify.fingerprint(items, spec)
    (pairs / "train").rename(pairs / "moved")
    text = (pairs / "set.yml").read_text().replace("train/", "moved/")
    (pairs / "set.yml").write_text(text)
    moved = Sets(told).train
    assert moved[0].image != items[0].image
    assert verify.fingerprint(moved, spec) == found
