# SPDX-License-Identifier: Apache-2.0
"""The keys of a custom set about reading: colours of labels, orientation, range of values."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from datasets.base import DataError, SegmentationDataset, read_item_label
from datasets.centroids import load_or_build
from datasets.custom import list_items, make_spec
from datasets.headers import item_size
from datasets.spec import DatasetSpec
from tests.datasets.conftest import save
from tools.check import main

CLASSES = np.kron(np.array([[0, 1, 2], [2, 255, 1]]), np.ones((4, 6))).astype(np.uint8)
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
COLORS = {"#ff0000": "a", "0, 255, 0": 1, "#0000FF": "c", "#000000": "ignore"}


def painted(classes: np.ndarray) -> np.ndarray:
    pixels = np.zeros((*classes.shape, 3), np.uint8)
    for number, color in enumerate((RED, GREEN, BLUE)):
        pixels[classes == number] = color
    return pixels


def describe(root: Path, **changes: object) -> Path:
    split = {"images": "images", "labels": "masks"}
    tree = {"names": ["a", "b", "c"], "splits": {"train": split, "val": split}, **changes}
    (root / "set.yml").write_text(yaml.safe_dump(tree))
    return root / "set.yml"


def make_set(root: Path, labels: dict[str, Image.Image]) -> Path:
    for number, (name, label) in enumerate(labels.items()):
        (root / "masks").mkdir(parents=True, exist_ok=True)
        label.save(root / "masks" / name)
        image = np.full((label.height, label.width, 3), number, np.uint8)
        save(root / "images" / Path(name).with_suffix(".png"), image)
    return root


@pytest.fixture
def colored(tmp_path: Path) -> Path:
    """Four labels of the same colours: RGB, RGBA, palette, TIFF."""
    rgb = Image.fromarray(painted(CLASSES))
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray(CLASSES))
    labels = {"0.png": rgb, "1.png": rgba, "2.png": rgb.quantize(8), "3.tif": rgb}
    return make_set(tmp_path, labels)


def check(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={path}", "--split", "train"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    "colors",
    [
        COLORS,
        [list(RED), list(GREEN), list(BLUE)],
        {"a": "#ff0000", "b": [0, 255, 0], "c": ["#0000ff", "9 9 9"], "ignore": "#000000"},
        {0: "#ff0000", 1: "#00ff00", 2: list(BLUE), 255: [0, 0, 0]},
    ],
)
def test_colours_become_classes_however_the_map_is_written(colored: Path, colors: object) -> None:
    path = describe(colored, colors=colors)
    spec, items = make_spec(path), list_items(path, "train")
    assert len(items) == 4
    if isinstance(colors, list):
        with pytest.raises(DataError, match=r"#000000 \(24 pixels\) not in the colors of set"):
            read_item_label(items[0], spec)
        return
    for item in items:
        label = SegmentationDataset(items, spec).read(items.index(item)).label
        assert label is not None and (label == CLASSES).all()
    assert spec.palette == (RED, GREEN, BLUE)


def test_colours_may_stand_for_ids(colored: Path) -> None:
    ids = {7: 0, 1000: 1, 26: 2, -1: 255}
    colors = {"#ff0000": 7, "#00ff00": "b", "#0000ff": 26, "#000000": -1}
    path = describe(colored, ids=ids, colors=colors)
    spec = make_spec(path)
    assert (read_item_label(list_items(path, "train")[0], spec) == CLASSES).all()
    assert spec.train_id_to_id == (7, 1000, 26)


def test_a_colour_is_ignored_without_an_id_for_it(colored: Path) -> None:
    path = describe(colored, ids={0: 0, 1: 1, 2: 2}, colors=COLORS)
    assert (read_item_label(list_items(path, "train")[0], make_spec(path)) == CLASSES).all()


def test_unknown_colours_are_named_with_file_and_pixels(
    colored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = painted(CLASSES)
    pixels[0, :5], pixels[1, :2] = (255, 0, 1), (1, 2, 3)
    label = colored / "masks" / "0.png"
    Image.fromarray(pixels).save(label)
    path = describe(colored, colors=COLORS)
    code, text = check(path, capsys)
    assert code == 2
    words = "label colours #ff0001 (5 pixels), #010203 (2 pixels) not in the colors of set"
    assert f"{label}: {words}" in text
    with pytest.raises(DataError, match="#ff0001"):
        read_item_label(list_items(path, "train")[0], make_spec(path))


def test_check_and_class_uniform_points_know_colours(
    colored: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = describe(colored, colors=COLORS)
    code, text = check(path, capsys)
    assert code == 0 and "0 problems" in text
    shares = {row[1]: row[2] for line in text.splitlines() if len(row := line.split()) == 4}
    assert (shares["a"], shares["b"], shares["(ignored)"]) == ("16.667", "33.333", "16.667")
    points = load_or_build(list_items(path, "train"), make_spec(path), 4, tmp_path / "cache", 1)
    assert set(points) == {0, 1, 2}


def test_deep_colours_are_refused(colored: Path) -> None:
    pixels = painted(CLASSES).astype(np.uint16) * 257
    assert cv2.imwrite(str(colored / "masks" / "0.png"), pixels)
    path = describe(colored, colors=COLORS)
    with pytest.raises(DataError, match="has 16 bits, colours of 8 bits wanted"):
        read_item_label(list_items(path, "train")[0], make_spec(path))


def test_black_and_white_masks_of_1_bit_stand_beside_colours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.kron([[0, 1]], np.ones((4, 6))).astype(bool)
    grey = Image.fromarray(mask)
    make_set(tmp_path, {"0.png": grey, "1.png": grey.convert("RGB")})
    path = describe(tmp_path, names=["back", "thing"], colors={"#000000": 0, "#ffffff": "thing"})
    code, text = check(path, capsys)
    assert code == 0 and "1 bit" not in text
    spec = make_spec(path)
    for item in list_items(path, "train"):
        assert (read_item_label(item, spec) == mask).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colors": 3}, ["colors must map colours to classes"]),
        ({"colors": {}}, ["colors must map colours to classes"]),
        ({"colors": [[1, 2, 3]]}, ["colors must be 3 colours, one per class"]),
        ({"colors": {**COLORS, "#ff00": "a"}}, ["colors: #ff00", "must be a colour"]),
        ({"colors": {**COLORS, "1,2,300": "a"}}, ["colors: 1,2,300", "must be a colour"]),
        ({"colors": {**COLORS, "#111111": "aa"}}, ["colors: #111111", "not a class: 'aa'"]),
        ({"colors": {**COLORS, "#111111": 9}}, ["colors: #111111", "one of the ids 0, 1, 2"]),
        ({"colors": {**COLORS, "#111111": True}}, ["colors: #111111", "got True"]),
        ({"colors": {**COLORS, "255,0,0": "b"}}, ["gives #ff0000 to two classes"]),
        ({"colors": {"#ff0000": "a", "#00ff00": "b"}}, ["colors has no colour of c"]),
        ({"exif": "off"}, ["exif must be apply or ignore, got 'off'"]),
        ({"exif": True}, ["exif must be apply or ignore"]),
        ({"range": 4095}, ["range must be [low, high]"]),
        ({"range": [4095, 0]}, ["range must be [low, high]"]),
        ({"range": [0, float("inf")]}, ["range must be [low, high]"]),
        ({"range": [0, "4095"]}, ["range must be [low, high]"]),
        ({"names": [f"c{n}" for n in range(256)]}, ["names holds 256 classes", "at most 255"]),
    ],
)
def test_mistakes_name_key_and_file(
    colored: Path, changes: dict[str, object], words: list[str]
) -> None:
    path = describe(colored, **changes)
    with pytest.raises(DataError) as raised:
        make_spec(path)
        list_items(path, "train")
    text = str(raised.value)
    assert str(path) in text and "\n" not in text
    assert all(word in text for word in words)


def test_255_classes_are_possible() -> None:
    names = tuple(f"c{number}" for number in range(255))
    ids = {number: number for number in range(256)}
    colors = tuple((number, 0, 0) for number in range(255))
    spec = DatasetSpec(
        name="many", class_names=names, palette=colors, id_to_train_id=ids, ignore_label=255,
        train_id_to_id=tuple(range(255)),
    )  # fmt: skip
    assert spec.num_classes == 255


@pytest.fixture
def turned(tmp_path: Path) -> Path:
    """An image with orientation 6 whose label is that of the stored pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = np.kron(CLASSES[::4, ::6], np.ones((8, 8)))[..., None] * np.array([1, 1, 1])
    (tmp_path / "images").mkdir()
    Image.fromarray(image.astype(np.uint8)).save(tmp_path / "images" / "0.png", exif=exif)
    save(tmp_path / "masks" / "0.png", np.kron(CLASSES[::4, ::6], np.ones((8, 8))).astype(np.uint8))
    return tmp_path


def test_labels_of_the_stored_image_are_explained(
    turned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = check(describe(turned), capsys)
    assert code == 2
    assert "0.png is 16x24, but its label" in text
    assert "turned by EXIF; the stored size fits" in text and "exif: ignore" in text
    assert "train: 1 image carries an EXIF orientation (they are turned; their labels must" in text


def test_exif_can_be_ignored(turned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = describe(turned, exif="ignore")
    code, text = check(path, capsys)
    assert code == 0 and "1 image carries an EXIF orientation (it is ignored)" in text
    item = list_items(path, "train")[0]
    sample = SegmentationDataset([item], make_spec(path)).read(0)
    assert item_size(item) == sample.image.shape[:2] == (16, 24)
    assert sample.label is not None and (sample.image[..., 0] == sample.label).all()


def test_ignoring_what_should_be_obeyed_is_explained(turned: Path) -> None:
    label = turned / "masks" / "0.png"
    Image.fromarray(np.rot90(np.asarray(Image.open(label)), -1).copy()).save(label)
    path = describe(turned, exif="ignore")
    with pytest.raises(DataError, match="the image would fit: leave out exif: ignore"):
        SegmentationDataset(list_items(path, "train"), make_spec(path)).read(0)


def test_nearly_black_images_are_noted_and_a_range_brings_them_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_set(tmp_path, {"0.png": Image.fromarray(CLASSES)})
    deep = np.linspace(0, 3900, CLASSES.size).reshape(CLASSES.shape).astype(np.uint16)
    assert cv2.imwrite(str(tmp_path / "images" / "0.png"), deep)
    code, text = check(describe(tmp_path), capsys)
    assert code == 0
    assert "16 bits but no value above 4095 in 1 image" in text and "range: [0, 4095]" in text
    path = describe(tmp_path, range=[0, 4095])
    assert "nearly black" not in check(path, capsys)[1]
    image = SegmentationDataset(list_items(path, "train"), make_spec(path)).read(0).image
    assert image.max() == round(3900 / 4095 * 255)


def test_1_bit_labels_are_noted_and_not_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = Image.fromarray(np.kron([[0, 1]], np.ones((4, 6))).astype(bool))
    make_set(tmp_path, {"0.png": mask, "1.png": mask})
    path = describe(tmp_path, names=["back", "thing"])
    code, text = check(path, capsys)
    assert code == 0 and "train: 2 labels are 1 bit, read as 0 and 1" in text
    Image.fromarray(np.zeros((4, 12), np.uint8)).save(tmp_path / "masks" / "1.png")
    code, text = check(path, capsys)
    assert code == 2 and "1 of 2 labels" in text
