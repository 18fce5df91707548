# SPDX-License-Identifier: Apache-2.0
"""Boundary files: written from real label files, read back, refused when they do not fit."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import loadmat, savemat

from assembly import data
from assembly.dataset import dataset_spec, split_items
from datasets import ade20k, custom, registry, table
from datasets import boundary_files as dt_offset
from datasets.base import DataError, read_item_label
from datasets.boundary_files import check_header, offset_path, read_maps
from settings import read_settings
from tests.datasets.conftest import save
from tools.dt_offset import main, run
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


ROOTS = {
    "cityscapes": "cities",
    "synthetic": "cities",
    "gtav": "gtav_root",
    "bdd100k": "bdd_root",
    "pascal_context_59": "pascal_context_root",
    "custom": "harbour",
}


@pytest.fixture
def harbour(tmp_path: Path) -> Path:
    """A description that lies apart from its data."""
    label = np.zeros((16, 20), np.uint8)
    label[:, 9:] = 1
    for part, pixels in (("i", np.stack([label] * 3, -1)), ("m", label)):
        save(tmp_path / "far" / part / "a.png", pixels)
    splits = {"train": {"images": "i", "labels": "m"}, "val": {"images": "i", "labels": "m"}}
    tree = {"root": "far", "names": ["water", "background"], "splits": splits}
    path = tmp_path / "harbour.yml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("name", table.paired())
def test_files_of_every_data_set_are_written_and_fit_training(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    root = request.getfixturevalue(ROOTS.get(name, f"{name}_root"))
    place = table.TABLE[name].root
    assert place is not None
    settings = {place.key: root, "DT_OFFSET_DIR": tmp_path / "out"}
    argv = ["--dataset", name]
    for key, value in {**settings, "CENTROID_ROOT": tmp_path / "cache"}.items():
        argv += ["--set", f"DATASET.{key}={value}"]
    written = run(argv)["written"]
    assert written == len(list((tmp_path / "out").rglob("*.mat"))) > 0
    told = read_settings([*argv, "--dt_offset_wt", "1", "--dt_offset_source", "files"])
    spec, items = dataset_spec(told), split_items(told, "train")
    source = data.boundary_source(told, spec, items)
    label = read_item_label(items[0], spec)
    wanted = dt_offset.computed_maps(spec)(items[0], label)
    for key, values in source(items[0], label).items():
        assert np.array_equal(values, wanted[key])


def test_a_label_beside_the_root_is_named_with_a_way_out(
    harbour: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harbour.write_text(harbour.read_text().replace("labels: m", f"labels: {harbour.parent}/far/m"))
    harbour.write_text(harbour.read_text().replace("root: far", "root: far/i"))
    harbour.write_text(harbour.read_text().replace("images: i", "images: ."))
    assert main(["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={harbour}"]) == 2
    line = capsys.readouterr().err
    assert "is not below" in line and "--dt_offset_source compute needs none" in line


def test_only_the_background_of_pascal_context_is_no_region(harbour: Path) -> None:
    assert registry.spec_of("pascal_context", None).boundary_void == (0,)
    assert registry.spec_of("pascal_context_59", None).boundary_void == ()
    assert custom.make_spec(harbour).boundary_void == ()  # whatever its classes are called


def write(path: Path, **changes: object) -> Path:
    maps = np.zeros((4, 6), np.uint8)
    savemat(path, {"depth": maps, "dir_deg": maps, "deg_reduce": 2, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deg_reduce": 4}, "another version"),
        ({"depth": np.zeros((5, 6), np.uint8)}, "depth is 6x5, but its label is 6x4; write"),
        ({"dir_deg": np.zeros((4, 6), np.float32)}, "dir_deg is of type single|float32, but uint8"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, changes: dict, words: str) -> None:
    path = write(tmp_path / "a.mat", **changes)
    for read in (read_maps, check_header):
        with pytest.raises(DataError, match=words) as caught:
            read(path, (4, 6))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_matlab_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_text("nothing of that kind")
    with pytest.raises(DataError, match="not a boundary file"):
        read_maps(path, (4, 6))


def test_every_file_is_checked_once_before_training(ade: Path, tmp_path: Path) -> None:
    run(ade_arguments(ade))
    items = ade20k.list_items(ade, "train")
    check = partial(dt_offset.check_stored, items, ade, ade, tmp_path / "cache", 2)
    check()
    last = files_of(ade)[-1]
    stat, content = last.stat(), last.read_bytes()
    last.write_bytes(b"0" * len(content))
    os.utime(last, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    check()  # the files are taken for the same
    write(last)
    with pytest.raises(DataError, match=f"{last.name}: depth is 6x4, but its label is"):
        check()


def test_one_class_labels_are_counted(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = sorted((ade / "annotations" / "training").glob("*.png"))[0]
    Image.fromarray(np.full_like(np.asarray(Image.open(label)), 3)).save(label)
    assert run(ade_arguments(ade))["one class"] == 1
    assert "one class only" in capsys.readouterr().out


def test_wrong_split_is_one_line(ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ade_arguments(ade), "--split", "dev"]) == 2
    wanted = "error: argument --split: 'dev': some of train,val,test wanted"
    assert capsys.readouterr().err.splitlines() == [wanted]


@pytest.mark.parametrize("workers", ["0", "-3"])
def test_no_workers_are_one_line(
    ade: Path, capsys: pytest.CaptureFixture[str], workers: str
) -> None:
    assert main([*ade_arguments(ade), "--workers", workers]) == 2
    line = f"error: argument --workers: {workers} must be at least 1 and at most"
    assert capsys.readouterr().err.startswith(line)
