# SPDX-License-Identifier: Apache-2.0
"""python -m datasets.convert: from polygons to a set that the programs read."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from datasets import custom
from datasets.convert import main

SIZE = (20, 30)
BOX = [2, 3, 12, 3, 12, 9, 2, 9]  # 10 x 6 pixels


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "süd").mkdir(parents=True)
    for name in ("a b.jpg", "süd/c.jpg"):
        Image.fromarray(np.full((*SIZE, 3), 90, np.uint8)).save(folder / name)
    return folder


def coco(**changes: object) -> dict:
    """Two images: a car with a hole of another class, a crowd below everything."""
    content = {
        "images": [
            {"id": 7, "file_name": "a b.jpg", "height": 20, "width": 30},
            {"id": 8, "file_name": "süd/c.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 9, "name": "wheel"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 9, "segmentation": [[4, 4, 6, 4, 6, 6, 4, 6]]},
            {"id": 2, "image_id": 7, "category_id": 3, "segmentation": [BOX]},
            {"id": 3, "image_id": 7, "category_id": 9, "iscrowd": 1,
             "segmentation": {"size": [20, 30], "counts": [0, 20 * 30]}},
            {"id": 4, "image_id": 8, "category_id": 3,
             "segmentation": [BOX, [20, 10, 25, 10, 25, 15]]},
        ],
    }  # fmt: skip
    return {**content, **changes}


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def labels(out: Path, split: str = "train") -> dict[str, np.ndarray]:
    """Labels by the names of their items, read as `--dataset custom` does."""
    items = custom.list_items(out / "set.yml", split)
    return {item.name: np.asarray(Image.open(item.label)) for item in items}


def test_coco_becomes_a_set_with_ids_in_the_order_of_its_categories(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(tmp_path / "x.json", coco()), tmp_path / "out"
    assert main([str(source), "--images", str(photos), "--out", str(out)]) == 0
    spec = custom.make_spec(out / "set.yml")
    assert spec.class_names == ("car", "wheel")
    found = labels(out)
    assert list(found) == ["a b", "süd/c"]
    first = found["a b"]
    assert (first[4:6, 4:6] == 1).all() and (first[3, 2:12] == 0).all(), "small ones lie above"
    assert (first[12:] == 1).all(), "the crowd lies below everything"
    assert (first == 0).sum() == 60 - 4
    second = found["süd/c"]
    assert (second[3:9, 2:12] == 0).all() and set(np.unique(second)) == {0, 255}
    assert (out / "images/train/a b.jpg").resolve() == (photos / "a b.jpg").resolve()
    assert "ids: 0 car, 1 wheel" in capsys.readouterr().out
    assert not list(tmp_path.glob(".hiseg*"))


def test_names_background_and_ignored_labels_decide_the_ids(photos: Path, tmp_path: Path) -> None:
    source, out = write(tmp_path / "x.json", coco()), tmp_path / "out"
    flags = ["--images", str(photos), "--background", "rest", "--copy"]
    assert main([str(source), "--out", str(out), *flags, "--names", "wheel,car"]) == 0
    assert yaml.safe_load((out / "set.yml").read_text())["names"] == ["rest", "wheel", "car"]
    assert set(np.unique(labels(out)["süd/c"])) == {0, 2}
    assert not (out / "images/train/a b.jpg").is_symlink()
    other = tmp_path / "other"
    assert main([str(source), "--out", str(other), *flags, "--ignore", "wheel"]) == 0
    assert set(np.unique(labels(other)["a b"])) == {1, 255}


def test_splits_come_from_several_files_or_from_a_share(photos: Path, tmp_path: Path) -> None:
    source, out = write(tmp_path / "x.json", coco()), tmp_path / "out"
    flags = ["--images", str(photos)]
    assert main([f"train={source}", f"val={source}", "--out", str(out), *flags]) == 0
    assert len(labels(out, "train")) == len(labels(out, "val")) == 2
    halves = tmp_path / "halves"
    assert main([str(source), "--out", str(halves), *flags, "--val_share", "0.5"]) == 0
    assert sorted([*labels(halves, "train"), *labels(halves, "val")]) == ["a b", "süd/c"]


def labelme(file: str, shapes: list[dict], **changes: object) -> dict:
    return {"imagePath": file, "imageHeight": 20, "imageWidth": 30, "shapes": shapes, **changes}


def test_labelme_draws_its_shapes_in_their_order(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(buffer, "PNG")
    pixels = base64.b64encode(buffer.getvalue()).decode()
    shapes = [
        {"label": "road", "points": [[0, 10], [30, 10], [30, 20], [0, 20]]},
        {"label": "car", "shape_type": "rectangle", "points": [[12, 14], [8, 12]]},
        {"label": "ball", "shape_type": "circle", "points": [[20, 5], [23, 5]]},
        {"label": "hole", "shape_type": "mask", "points": [[8, 12], [9, 13]], "mask": pixels},
        {"label": "car", "shape_type": "point", "points": [[1, 1]]},
    ]
    write(photos / "a b.json", labelme("..\\photos\\a b.jpg", shapes))
    out = tmp_path / "out"
    assert main([str(photos), "--out", str(out), "--background", "sky"]) == 0
    assert custom.make_spec(out / "set.yml").class_names == ("sky", "ball", "car", "hole", "road")
    label = labels(out)["a b"]
    assert (label == 2).sum() == 4 * 2 - 3 and (label[12:14, 8:10] == [[3, 2], [3, 3]]).all()
    assert (label == 1).sum() == pytest.approx(np.pi * 9, abs=4)
    assert "train: 1 point: without an area, not drawn" in capsys.readouterr().out


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><meta><task><labels>
<label><name>road</name></label><label><name>car</name></label></labels></task></meta>
<image id="0" name="a b.jpg" width="30" height="20">
  <box label="car" xtl="8" ytl="12" xbr="12" ybr="14" z_order="1"/>
  <polygon label="road" points="0,10;30,10;30,20;0,20" z_order="0"/>
  <mask label="car" rle="1,2,1" left="0" top="0" width="2" height="2" z_order="0"/>
  <ellipse label="car" cx="20" cy="5" rx="4" ry="2" rotation="90"/>
  <points label="car" points="1,1"/>
</image></annotations>"""


def test_cvat_draws_by_z_order_with_the_labels_of_its_project(photos: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "x.xml", tmp_path / "out"
    source.write_text(CVAT, encoding="utf-8")
    assert main([str(source), "--images", str(photos), "--out", str(out)]) == 0
    assert custom.make_spec(out / "set.yml").class_names == ("road", "car")
    label = labels(out)["a b"]
    assert (label[12:14, 8:12] == 1).all() and (label[10, :] == 0).all()
    assert label[:2, :2].tolist() == [[255, 1], [1, 255]]
    assert label[1:9, 18:22].tolist() != [] and (label[2:8, 20] == 1).all()


def faults(
    content: dict, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> list[str]:
    """The lines of a conversion that writes nothing."""
    before = sorted(path.name for path in tmp_path.iterdir())
    source = write(tmp_path / "bad.json", content)
    out = tmp_path / "out"
    assert main([str(source), "--images", str(photos), "--out", str(out), *flags]) == 2
    source.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "nothing is left"
    return capsys.readouterr().out.splitlines()


def test_every_fault_is_a_line_and_nothing_is_written(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = coco()
    bad["images"].append({"id": 9, "file_name": "gone.jpg", "height": 20, "width": 30})
    bad["images"][1]["width"] = 31
    bad["annotations"] += [
        {"id": 5, "image_id": 7, "category_id": 3, "segmentation": [[0, 0, 33, 0, 5, 5]]},
        {"id": 6, "image_id": 7, "category_id": 4, "segmentation": [BOX]},
        {"id": 7, "image_id": 70, "category_id": 3, "segmentation": [BOX]},
        {"id": 8, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]},
        {"id": 9, "image_id": 7, "category_id": 3, "segmentation": [[0, 0, 5, 5]]},
        {"id": 10, "image_id": 7, "category_id": 3,
         "segmentation": {"size": [20, 30], "counts": "02"}},
    ]  # fmt: skip
    lines = faults(bad, photos, tmp_path, capsys)
    for wanted in (
        "a b.jpg: annotation 5 (car): (33, 0) lies outside of the image (30x20); --clip cuts it",
        "a b.jpg: annotation 6: has category 4, which is not listed",
        "annotation 7: belongs to image 70, which is not listed",
        "annotation 8: has no segmentation, a box alone is no region",
        "annotation 9: a polygon has 2 corners, at least 3 are needed",
        "annotation 10: its run lengths add up to 2, 30x20 are wanted",
        "gone.jpg: there is no such image in ",
        "süd/c.jpg: is annotated at 31x20, ",
    ):
        assert sum(wanted in line for line in lines[:-1]) == 1, (wanted, lines)
    assert len(lines) == 9 and lines[-1].startswith("error: 8 faults: ")
    assert lines[-1].endswith("nothing was written")


def test_clip_and_skip_missing_take_what_they_name(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = coco()
    content["images"].append({"id": 9, "file_name": "gone.jpg"})
    content["annotations"].append(
        {"id": 5, "image_id": 8, "category_id": 9, "segmentation": [[20, 0, 90, 0, 90, 5, 20, 5]]}
    )
    source, out = write(tmp_path / "x.json", content), tmp_path / "out"
    flags = ["--images", str(photos), "--out", str(out), "--clip", "--skip_missing"]
    assert main([str(source), *flags]) == 0
    assert (labels(out)["süd/c"] == 1).sum() == 10 * 5
    assert "train: 1 image missing, left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (coco(categories=[{"id": 3, "name": "car"}, {"id": 3, "name": "b"}]), [], "id 3 stands"),
        (coco(categories=[{"id": 3}]), [], "an id and a name are wanted"),
        (coco(images={}), [], "has no list 'images'"),
        ([], [], "is neither COCO"),
        (coco(), ["--names", "car"], "one class, car"),
        (coco(), ["--names", "car,wheels"], "'wheel' is none of --names; did you mean wheels?"),
        (coco(), ["--val_share", "0.01"], "leaves a split empty"),
        (coco(), ["--val_share", "2"], "a share between 0 and 1"),
        (coco(images=[], annotations=[]), [], "names no image"),
    ],
)  # fmt: skip
def test_what_makes_no_set_is_one_line(
    content: dict, flags: list[str], said: str, photos: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    lines = faults(content, photos, tmp_path, capsys, *flags)
    assert said in lines[-1] and lines[-1].startswith("error: ")


def test_a_folder_that_exists_is_left_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "x.json", coco())
    assert main([str(source), "--images", str(photos), "--out", str(photos)]) == 2
    assert "exists; name a new folder" in capsys.readouterr().out
    assert main([str(source), "--images", str(tmp_path / "no"), "--out", str(tmp_path / "o")]) == 2
    assert main([str(source), str(source), "--out", str(tmp_path / "o")]) == 2
    assert "stands twice" in capsys.readouterr().out


JUNK = (None, [], {}, "x", -1, 10**30, float("nan"), True, [[1, 2]], {"size": [20, 30]})


def places(content: object, path: tuple = ()) -> Iterator[tuple]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in pairs:
        yield (*path, key)
        if isinstance(value, dict | list) and len(value) < 8:
            yield from places(value, (*path, key))


def replaced(content: object, path: tuple, value: object) -> object:
    copy = json.loads(json.dumps(content))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["coco", "labelme"])
def test_no_junk_anywhere_gives_more_than_lines(
    kind: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = {"label": "car", "points": [[0, 0], [5, 0], [5, 5]], "shape_type": "polygon"}
    disk = {"label": "car", "points": [[4, 4], [5, 5]], "shape_type": "circle"}
    whole = coco() if kind == "coco" else labelme("a b.jpg", [shape, disk])
    flags = ["--images", str(photos), "--background", "rest"]
    for number, path in enumerate(places(whole)):
        for junk in JUNK:
            source = write(tmp_path / "junk.json", replaced(whole, path, junk))
            out = tmp_path / f"out{number}"
            code = main([str(source), "--out", str(out), *flags])
            assert code == (0 if out.exists() else 2), (path, junk)
            shutil.rmtree(out, ignore_errors=True)
            shown = capsys.readouterr()
            assert code == 0 or shown.out.splitlines()[-1].startswith("error: "), (path, junk)
