# SPDX-License-Identifier: Apache-2.0
"""ImageNet as it is downloaded: a tar of tars, a flat tar, and the devkit with its classes."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from assembly.classification_data import class_spec, images_of
from assembly.dataset import has_split
from datasets.copies import GB, Copies
from datasets.decode import read_image
from datasets.imagenet import list_classes, list_split
from datasets.places import keep_copies
from runtime.errors import UserError
from settings import Settings, read_settings
from tests.archives import write_tar, write_zip
from tests.class_folders import write_class_folders
from tools import check

DEVKIT = "ILSVRC2012_devkit_t12"
SHAPE = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_class_folders(tmp_path_factory.mktemp("folders"), classes=3)


def tar_bytes(files: dict[str, bytes], place: Path) -> bytes:
    return write_tar(place, files).read_bytes()


@pytest.fixture
def archives(folders: Path, tmp_path: Path) -> Path:
    root, inner = tmp_path / "ilsvrc", {}
    root.mkdir()
    for folder in sorted((folders / "train").iterdir()):
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        inner[f"{folder.name}.tar"] = tar_bytes(files, tmp_path / "inner.tar")
    write_tar(root / "ILSVRC2012_img_train.tar", inner)
    # numbers of the devkit are not in the order of the wnids
    wnids = {3: "n00000000", 1: "n00000001", 2: "n00000002"}
    images = [(number, path) for number in (2, 3, 1, 3, 2, 1) for path in
              [sorted((folders / "val" / wnids[number]).iterdir())[0]]]  # fmt: skip
    flat = {
        f"ILSVRC2012_val_{place:08d}.JPEG": path.read_bytes()
        for place, (_, path) in enumerate(images, 1)
    }
    write_tar(root / "ILSVRC2012_img_val.tar", flat)
    rows = [(number, wnid, 0) for number, wnid in wnids.items()] + [(4, "n09999999", 2)]
    synsets = np.array(rows, dtype=SHAPE)[:, None]
    stream = io.BytesIO()
    savemat(stream, {"synsets": synsets})
    numbers = "".join(f"{number}\n" for number, _ in images).encode()
    with tarfile.open(root / f"{DEVKIT}.tar.gz", "w:gz") as devkit:
        for name, content in (
            ("data/ILSVRC2012_validation_ground_truth.txt", numbers),
            ("data/meta.mat", stream.getvalue()),
        ):
            entry = tarfile.TarInfo(f"{DEVKIT}/{name}")
            entry.size = len(content)
            devkit.addfile(entry, io.BytesIO(content))
    return root


def on(root: Path) -> Settings:
    argv = ["--task", "classify", "--dataset", "imagenet", "--arch", "hrvit.b1_224"]
    return read_settings([*argv, "--set", f"DATASET.IMAGENET_DIR={root}"])


def test_training_images_are_those_of_the_folders(folders: Path, archives: Path) -> None:
    settings = on(archives)
    spec = class_spec(settings)
    assert spec.class_names == list_classes(folders, "train")
    found = images_of(settings, spec, "train")
    wanted = list_split(folders, "train", spec.class_names)
    assert found.names.tolist() == wanted.names.tolist()
    assert found.targets.tolist() == wanted.targets.tolist()
    for number in range(len(found)):
        assert np.array_equal(read_image(found.path(number)), read_image(wanted.path(number)))
    assert "ILSVRC2012_img_train.tar/n00000000/" in str(found.path(0))
    assert has_split(settings, "train")


def test_validation_images_have_the_classes_of_the_devkit(folders: Path, archives: Path) -> None:
    classes = list_classes(folders, "train")
    found = list_split(archives, "val", classes)
    assert found.targets.tolist() == [0, 0, 1, 1, 2, 2]
    for number, target in enumerate(found.targets.tolist()):
        wanted = sorted((folders / "val" / classes[target]).iterdir())[0]
        assert np.array_equal(read_image(found.path(number)), read_image(wanted))
    assert found.name(0) == "n00000000/ILSVRC2012_val_00000002.JPEG"
    assert found.first(2).path(1).name == "ILSVRC2012_val_00000004.JPEG"


def test_the_devkit_and_the_images_may_be_unpacked(archives: Path, folders: Path) -> None:
    classes = list_classes(folders, "train")
    wanted = list_split(archives, "val", classes).names.tolist()
    for name in (f"{DEVKIT}.tar.gz", "ILSVRC2012_img_val.tar"):
        target = archives / "val" if "val" in name else archives
        shutil.unpack_archive(archives / name, target)
        (archives / name).unlink()
    assert list_split(archives, "val", classes).names.tolist() == wanted


def test_class_folders_may_be_a_zip_of_each_split_or_one_of_all(
    folders: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        write_zip(tmp_path / "two" / f"{split}.zip", {split: folders / split}, extra=f"{split}/x")
    one = write_zip(tmp_path / "imagenet.zip", {"imagenet": folders}, extra="imagenet/x")
    wanted = list_split(folders, "val", list_classes(folders, "val"))
    for root in (tmp_path / "two", one):
        settings = on(root)
        found = images_of(settings, class_spec(settings), "val")
        assert found.names.tolist() == wanted.names.tolist()
        assert np.array_equal(read_image(found.path(0)), read_image(wanted.path(0)))
        assert ".zip/" in str(found.path(0))


def test_the_check_reads_every_image(archives: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = check.main(["--dataset", "imagenet", "--set", f"DATASET.IMAGENET_DIR={archives}"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "train: 12 images, 3 classes of 4 to 4 images" in text
    assert "val: 6 images, 3 classes of 2 to 2 images" in text


def test_validation_images_without_the_devkit_are_one_line(archives: Path) -> None:
    (archives / f"{DEVKIT}.tar.gz").unlink()
    with pytest.raises(UserError, match=rf"6 images without labels.* or put {DEVKIT}\.tar\.gz"):
        list_classes(archives, "val")


def test_a_damaged_devkit_is_one_line(archives: Path) -> None:
    path = archives / f"{DEVKIT}.tar.gz"
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(UserError, match=rf"{DEVKIT}\.tar\.gz: not the devkit of ImageNet"):
        list_classes(archives, "val")


def test_the_index_of_a_tar_is_kept_with_the_copies(archives: Path, tmp_path: Path) -> None:
    copies = Copies(tmp_path / "copies", GB)
    copies.prepare()
    keep_copies(copies)
    try:
        first = list_split(archives, "train", list_classes(archives, "train"))
        assert len(list((tmp_path / "copies").glob("??/*"))) == 1
        again = shutil.copy2(archives / "ILSVRC2012_img_train.tar", tmp_path / "again.tar")
        Path(again).replace(archives / "ILSVRC2012_img_train.tar")  # the same size and time
        second = list_split(archives, "train", list_classes(archives, "train"))
        assert second.names.tolist() == first.names.tolist()
        assert read_image(second.path(0)).shape == (40, 40, 3)
    finally:
        keep_copies(None)
