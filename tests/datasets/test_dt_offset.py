# SPDX-License-Identifier: Apache-2.0
"""Boundary files: written from real label files, read back, refused when they do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from datasets import dt_offset, registry
from datasets.base import DataError
from datasets.dt_offset import main, offset_path, read_maps, run
from transforms.boundary import boundary_maps


@pytest.fixture
def ade(ade20k_root: Path, tmp_path: Path) -> Path:
    """A miniature of its own for every test: files are added to it."""
    return Path(shutil.copytree(ade20k_root, tmp_path / "ADEChallengeData2016"))


def ade_arguments(root: Path) -> list[str]:
    return ["--dataset", "ade20k", "--set", f"DATASET.ADE20K_DIR={root}", "--workers", "2"]


def files_of(root: Path) -> list[Path]:
    return sorted(root.rglob("dt_offset/**/*.mat"))


def test_ade20k_gets_the_published_format_in_the_published_place(ade: Path) -> None:
    counts = run([*ade_arguments(ade), "--split", "train,val"])
    found = files_of(ade)
    assert found and len(found) == sum(counts.values())
    assert {path.parent.name for path in found} == {"training", "validation"}
    content = loadmat(found[0])
    assert content["deg_reduce"].item() == 2
    label = found[0].parent.parent.parent / "annotations" / found[0].parent.name / found[0].stem
    raw = np.asarray(Image.open(label.with_suffix(".png"))).astype(np.int64)
    ids = np.where((raw >= 1) & (raw <= 150), raw - 1, 255).astype(np.uint8)
    depth, direction = boundary_maps(ids, 150)
    assert np.array_equal(content["depth"], depth)
    assert np.array_equal(content["dir_deg"], direction)


def test_a_second_run_keeps_good_files_and_mends_broken_ones(ade: Path) -> None:
    first = run(ade_arguments(ade))
    torn, *good = files_of(ade)
    torn.write_bytes(torn.read_bytes()[:50])
    times = [path.stat().st_mtime_ns for path in good]
    second = run(ade_arguments(ade))
    assert second["kept"] == len(good) and sum(second.values()) == sum(first.values())
    assert [path.stat().st_mtime_ns for path in good] == times
    assert loadmat(torn)["depth"].size > 0


def test_files_below_another_folder(ade: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere"
    run([*ade_arguments(ade), "--set", f"DATASET.DT_OFFSET_DIR={out}"])
    assert files_of(out) and not files_of(ade)


@pytest.mark.parametrize(
    ("label", "place"),
    [
        ("annotations/training/a.png", "dt_offset/training/a.mat"),
        ("train/label/b.png", "train/dt_offset/b.mat"),
        ("gtFine/train/c/d_labelIds.png", "dt_offset/gtFine/train/c/d_labelIds.mat"),
    ],
)
def test_places(label: str, place: str) -> None:
    assert offset_path(Path("/root"), Path("/out"), Path("/root") / label) == Path("/out") / place


def test_the_background_of_pascal_context_is_no_region(pascal_context_root: Path) -> None:
    spec = registry.TABLE["pascal_context"].spec
    assert dt_offset.void_classes(spec) == (0,)


def write(path: Path, **changes: object) -> Path:
    maps = np.zeros((4, 6), np.uint8)
    savemat(path, {"depth": maps, "dir_deg": maps, "deg_reduce": 2, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deg_reduce": 4}, "another version"),
        ({"depth": np.zeros((5, 6), np.uint8)}, "6x5"),
        ({"dir_deg": np.zeros((4, 6), np.float32)}, "float32"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, changes: dict, words: str) -> None:
    path = write(tmp_path / "a.mat", **changes)
    with pytest.raises(DataError, match=words) as caught:
        read_maps(path, (4, 6))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_matlab_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_text("nothing of that kind")
    with pytest.raises(DataError, match="no boundary file"):
        read_maps(path, (4, 6))


def test_one_class_labels_are_counted(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = sorted((ade / "annotations" / "training").glob("*.png"))[0]
    Image.fromarray(np.full_like(np.asarray(Image.open(label)), 3)).save(label)
    assert run(ade_arguments(ade))["one class"] == 1
    assert "one class only" in capsys.readouterr().out


def test_wrong_split_is_one_line(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ade_arguments(ade), "--split", "dev"]) == 2
    wanted = "error: --split dev: some of train,val,test wanted"
    assert capsys.readouterr().err.splitlines() == [wanted]
