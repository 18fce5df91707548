# SPDX-License-Identifier: Apache-2.0
"""Label noise on drawn predictions: the ranking, the lists, the page, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from assembly.sets import train_items
from datasets.annotations.drawing import filled
from datasets.convert import main as convert
from datasets.ids import read_item_label
from datasets.skip import SkipList
from datasets.spec import Item
from datasets.synthetic import SPEC, list_items
from reports.trees import encode_scores
from runtime.errors import UserError
from settings import read_settings
from tests.program import TINY, street_flags
from tests.reports.chrome import Chrome
from tools.label_noise.folds import FoldPlan, parts, write_lists
from tools.label_noise.lists import polygons
from tools.label_noise.predictions import Answer, read_predictions
from tools.label_noise.program import find_regions, main
from tools.label_noise.regions import Region, ranked, regions_of, usual

ROAD, SIDEWALK, BUILDING, SKY, CAR = 0, 1, 2, 10, 13
RIDER, PERSON = 12, 11
CLASSES = SPEC.num_classes


def scores_of(ids: npt.NDArray[np.uint8], sure: float = 0.9) -> npt.NDArray[np.float32]:
    """Probabilities (K, H, W) of a network that sees `ids` and gives the rest to all others."""
    scores = np.full((CLASSES, *ids.shape), (1 - sure) / (CLASSES - 1), np.float32)
    np.put_along_axis(scores, ids[None].astype(np.intp), np.float32(sure), 0)
    return scores


def answer_of(
    label: npt.NDArray[np.uint8], seen: npt.NDArray[np.uint8], sure: float = 0.9
) -> Answer:
    """What a network that sees `seen` says about `label`."""
    scores = scores_of(seen, sure)
    place = np.where(label < CLASSES, label, 0)[None].astype(np.intp)
    given = np.take_along_axis(scores, place, 0)[0]
    return Answer(label=label, pred=seen, top=scores.max(0), given=given)


def street() -> npt.NDArray[np.uint8]:
    """Sky over buildings over road, a pavement, a car, a person, a rider, (80, 120)."""
    ids = np.full((80, 120), ROAD, np.uint8)
    ids[:20], ids[20:50] = SKY, BUILDING
    ids[50:, 110:] = SIDEWALK
    ids[45:60, 20:50] = CAR
    ids[52:64, 90:94], ids[52:64, 100:104] = PERSON, RIDER
    return ids


def regions_in(*answers: Answer) -> list[Region]:
    """The ranked regions of a set of these images."""
    total = usual(answers[0], CLASSES)
    for answer in answers[1:]:
        total = total + usual(answer, CLASSES)
    return ranked(
        region
        for number, answer in enumerate(answers)
        for region in regions_of(answer, total.limits, total.surprise, number)
    )


def test_wrong_and_missing_objects_come_before_the_bands_along_outlines() -> None:
    truth = street()
    seen = np.roll(truth, 1, axis=0)  # every outline is off by a pixel
    seen[0] = SKY
    label = truth.copy()
    label[45:60, 20:50] = ROAD  # a missing car
    label[70:78, 80:100] = SIDEWALK  # a piece of road with another class
    found = regions_in(answer_of(label, seen), answer_of(truth, truth))
    pairs = [(region.label, region.predicted) for region in found]
    assert set(pairs[:2]) == {(ROAD, CAR), (SIDEWALK, ROAD)}
    bands = [region for region in found if (region.label, region.predicted) == (BUILDING, SKY)]
    assert len(bands) == 1 and bands[0].area == 120 and bands[0].share < 0.06
    missing = next(region for region in found if region.predicted == CAR and region.label == ROAD)
    assert missing.box == (20, 46, 30, 15) and missing.area > 400


def test_classes_that_are_mixed_up_anyway_come_after_unusual_pairs() -> None:
    usual_label, usual_seen = street(), street()
    usual_label[62:68, 60:80], usual_seen[62:68, 60:80] = RIDER, PERSON
    other_label, other_seen = street(), street()
    other_label[62:68, 60:80], other_seen[62:68, 60:80] = RIDER, SKY
    many = [answer_of(usual_label, usual_seen)] * 4
    found = regions_in(*many, answer_of(other_label, other_seen))
    assert [region.predicted for region in found] == [SKY, *[PERSON] * 4]
    assert found[0].area == found[1].area and found[0].image == 4
    assert found[0].score > 1.5 * found[1].score


def test_a_region_needs_a_pixel_of_usual_confidence_and_ignored_pixels_are_none() -> None:
    label, seen = street(), street()
    label[70:75, 10:20], seen[70:75, 10:20] = CAR, SKY
    label[0:5, 0:5], seen[0:5, 0:5] = 255, CAR
    sure = answer_of(label, seen)
    assert [(r.label, r.predicted, r.area) for r in regions_in(sure)] == [(CAR, SKY, 50)]
    top = sure.top.copy()
    top[70:75, 10:20] = 0.3
    doubtful = Answer(label=label, pred=seen, top=top, given=sure.given)
    assert regions_in(doubtful) == []


def test_polygons_are_the_pixels_of_a_region_without_holes() -> None:
    rng = np.random.default_rng(0)
    mask = cv2.morphologyEx(
        (rng.random((40, 60)) > 0.62).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((2, 2), np.uint8)
    )
    _, parts_of, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    for number in (1, 2, 3, int(stats[1:, 4].argmax()) + 1):
        left, top, width, height, _ = stats[number].tolist()
        own = parts_of[top : top + height, left : left + width] == number
        region = Region(
            image=0, left=left + 5, top=top + 7, mask=own, label=0, predicted=1, confidence=1,
            given=0, share=1, score=1,
        )  # fmt: skip
        drawn = np.zeros((60, 80), bool)
        for line in polygons(region):
            corners = np.array(line).reshape(-1, 2)
            drawn |= filled(corners, slice(0, 60), slice(0, 80))
        outside = np.pad(~own, 1, constant_values=True).astype(np.uint8)
        _, around = cv2.connectedComponents(outside, connectivity=4)
        wanted = np.zeros((60, 80), bool)
        wanted[region.top : region.top + height, region.left : region.left + width] = (
            around[1:-1, 1:-1] != around[0, 0]
        )
        assert (drawn == wanted).all()


@pytest.fixture
def holdout(tmp_path: Path, street_root: Path) -> Path:
    """Predictions of the validation images of the street set by a network that saw the others."""
    return dump(tmp_path, street_root, "val")


def dump(folder: Path, root: Path, split: str, sure: float = 0.9, top: int = 0) -> Path:
    """The files of a training, and of an evaluation that finds a car in the middle of all roads."""
    config = {"DATASET": {"SYNTHETIC_DIR": str(root)}, "MODEL": {}, "LOSS": {}}
    flags = {"dataset": "synthetic", "cv": 0, "city_mode": "train", "eval": None}
    training, run = folder / "training", folder / f"eval {split}"
    training.mkdir(exist_ok=True)
    (training / "run.json").write_text(json.dumps({"flags": flags, "config": config}))
    flags |= {"eval": "trn" if split == "train" else split, "snapshot": f"{training}/last.pth"}
    rows = []
    for item in list_items(root, split):
        seen = read_item_label(item, SPEC).copy()
        seen[seen == 255] = ROAD
        seen[40:52, 60:70] = CAR
        scores, ids = scores_of(seen, sure), None
        if top:
            ids = np.argsort(-scores, 0, kind="stable")[:top].astype(np.uint8)
            scores = np.take_along_axis(scores, ids.astype(np.intp), 0)
        file = run / f"scores/{item.name}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_scores(scores.astype(np.float16), ids, SPEC.class_names))
        rows.append({"name": item.name, "files": {"scores": f"scores/{item.name}.npz"}})
    (run / "run.json").write_text(json.dumps({"flags": flags, "config": config}))
    (run / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def error_of(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one error line of the program, which writes nothing."""
    assert main([*map(str, argv)]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.out.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and told.err.splitlines() == lines, told
    return lines[0]


def test_kept_scores_of_three_classes_rank_as_those_of_all(
    tmp_path: Path, street_root: Path
) -> None:
    for name in ("all", "three"):
        (tmp_path / name).mkdir()
    whole = read_predictions([dump(tmp_path / "all", street_root, "val")])
    three = read_predictions([dump(tmp_path / "three", street_root, "val", top=3)])
    found, again = (find_regions(each, 1).regions for each in (whole, three))
    assert [(r.image, r.box, r.label, r.predicted) for r in found] == [
        (r.image, r.box, r.label, r.predicted) for r in again
    ]
    assert np.allclose([r.score for r in found], [r.score for r in again], rtol=0.02)


def test_the_lists_name_images_for_other_programs(
    tmp_path: Path, street_root: Path, holdout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["--result_dir", str(out), "--predictions", str(holdout), "--shown", "3"]) == 0
    told = capsys.readouterr().out
    assert f"page: {out / 'label_noise.html'}" in told and "not known" not in told
    content = json.loads((out / "label_noise.json").read_text())
    assert len(content["categories"]) == CLASSES
    first, folder = content["annotations"][0], Path(content["info"]["folder"])
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert all((folder / name).is_file() for name in names.values())
    assert first["category_id"] == CAR + 1 and first["attributes"]["predicted"] == "car"
    scores = [each["score"] for each in content["annotations"]]
    assert scores == sorted(scores, reverse=True) and first["attributes"]["rank"] == 1
    told_set = ["--images", str(folder), "--out", str(tmp_path / "set"), "--background", "fine"]
    assert convert([str(out / "label_noise.json"), *told_set]) == 0
    assert len(list((tmp_path / "set" / "labels").rglob("*.png"))) == len(names)
    skip = SkipList(out / "label_noise.txt")
    assert skip.entries[0] == str(folder / names[first["image_id"]])
    named = [item for item in list_items(street_root, "val") if skip.has(item.name, item.image)]
    assert 1 <= len(named) == len(skip.entries) <= 3


def test_what_is_no_prediction_of_unseen_images_is_one_line(
    tmp_path: Path, street_root: Path, holdout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("--result_dir", tmp_path / "out", "--predictions")
    assert "no readable run.json" in error_of(capsys, *ask, tmp_path)
    assert "is a training" in error_of(capsys, *ask, tmp_path / "training")
    seen = error_of(capsys, *ask, holdout, dump(tmp_path, street_root, "train"))
    assert "was trained on 8 of the 8 images" in seen and "eval train" in seen
    with_lr = error_of(capsys, *ask, holdout, "--lr", "0.1")
    assert "--lr: nothing is trained with --predictions" in with_lr
    rows = [json.loads(line) for line in (holdout / "manifest.jsonl").read_text().splitlines()]
    first = holdout / rows[0]["files"]["scores"]
    small = encode_scores(np.zeros((CLASSES, 32, 64), np.float16), None, SPEC.class_names)
    first.write_bytes(small)
    assert "is 64x32, but the label" in error_of(capsys, *ask, holdout)
    first.write_bytes(encode_scores(np.zeros((2, 64, 128), np.float16), None, ("sea", "ship")))
    assert "has the classes sea, ship, but the labels" in error_of(capsys, *ask, holdout)
    first.write_bytes(b"PK")
    assert "no scores of --dump_scores" in error_of(capsys, *ask, holdout)
    first.unlink()
    assert str(first) in error_of(capsys, *ask, holdout)
    (holdout / "manifest.jsonl").write_text(json.dumps({"name": rows[0]["name"], "files": {}}))
    assert "predictions without scores" in error_of(capsys, *ask, holdout)
    (holdout / "manifest.jsonl").write_text(json.dumps({"name": "x/y", "files": {"scores": "x"}}))
    assert "image x/y is not in synthetic as it is now" in error_of(capsys, *ask, holdout)
    (holdout / "manifest.jsonl").unlink()
    assert "no readable manifest.jsonl" in error_of(capsys, *ask, holdout)
    assert not (tmp_path / "out").exists()


def test_a_network_without_a_record_of_its_training_is_a_note(
    tmp_path: Path, holdout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "training" / "run.json").unlink()
    out = tmp_path / "out"
    assert main(["--result_dir", str(out), "--predictions", str(holdout), "--shown", "1"]) == 0
    assert "what it saw is not known" in capsys.readouterr().out
    assert "what it saw is not known" in (out / "label_noise.html").read_text()


def test_a_network_that_started_from_one_that_saw_the_images_is_refused(
    tmp_path: Path, holdout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later, facts = tmp_path / "later", json.loads((tmp_path / "training/run.json").read_text())
    later.mkdir()
    facts["flags"]["snapshot"] = str(later / "last.pth")
    facts["flags"]["city_mode"] = "trainval"  # saw the validation images
    (tmp_path / "training" / "run.json").write_text(json.dumps(facts))
    facts["flags"] |= {"snapshot": str(tmp_path / "training/last.pth"), "city_mode": "train"}
    (later / "run.json").write_text(json.dumps(facts))
    told = json.loads((holdout / "run.json").read_text())
    told["flags"]["snapshot"] = str(later / "last.pth")
    (holdout / "run.json").write_text(json.dumps(told))
    line = error_of(capsys, "--result_dir", tmp_path / "out", "--predictions", holdout)
    assert "was trained on 4 of the 4 images" in line


def test_every_image_is_in_one_fold_whatever_its_name(tmp_path: Path) -> None:
    items = [Item(name=str(n), image=Path(f"{n}"), label=None) for n in range(53)]
    folds = parts(items, 3)
    assert sorted(item.name for fold in folds for item in fold) == sorted(i.name for i in items)
    assert {len(fold) for fold in folds} <= {16, 17, 18}
    steps = [np.diff([int(item.name) for item in fold]) for fold in folds]
    assert sum((own == 1).sum() for own in steps) >= 40  # neighbours mostly stay together


def test_trainings_take_all_images_but_those_of_their_fold(tmp_path: Path) -> None:
    root = odd_set(tmp_path / "set")
    flags = ["--dataset", "custom", "--set", f"DATASET.CUSTOM_YAML={root}/set.yml"]
    plan = FoldPlan(directory=tmp_path / "out", folds=2, train_flags=tuple(flags))
    settings = read_settings(flags)
    items = train_items(settings)
    assert len(items) == 6
    write_lists(plan, settings, items)
    for number, held in enumerate(parts(items, 2)):
        for name, wanted in (("train", [i for i in items if i not in held]), ("predictions", held)):
            skip = f"DATASET.SKIP_LIST={plan.fold(number)}/{name}.txt"
            assert train_items(read_settings([*flags, "--set", skip])) == wanted


def odd_set(root: Path) -> Path:
    """Six pairs with odd names, and a validation image."""
    names = ["a b", "#1", "sub/x", "sub/x.y", "z" * 60, os.fsdecode(b"gr\xfcn")]
    for split, own in (("train", names), ("val", ["v"])):
        for name in own:
            for kind in ("images", "masks"):
                file = root / split / kind / f"{name}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                value = np.zeros((8, 8, 3) if kind == "images" else (8, 8), np.uint8)
                file.write_bytes(cv2.imencode(".png", value)[1].tobytes())
    (root / "set.yml").write_text(
        "names: [sea, ship]\nsplits:\n  train: {images: train/images, labels: train/masks}\n"
        "  val: {images: val/images, labels: val/masks}\n"
    )
    return root


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--folds", "1"], "--folds"),
        (["--cv", "1"], "--cv: the folds decide that"),
        (["--eval", "val"], "--eval"),
        (["--lrr", "1"], "unknown argument --lrr"),
        (["--launcher", "no_such program"], "--launcher no_such: there is no such program"),
        (["--folds", "9"], "--folds 9: there are only 8 training images"),
        (["--eval_flags", "'"], "--eval_flags"),
    ],
)
def test_flags_that_do_not_fit_are_one_line_before_anything_is_trained(
    flags: list[str],
    words: str,
    tmp_path: Path,
    street_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert words in error_of(capsys, *TINY, *street_flags(street_root, out), *flags)
    assert not out.exists()


def test_folds_of_other_flags_are_not_mixed_with_those_that_are_there(
    tmp_path: Path, street_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    told = ["--dataset", "synthetic", "--set", f"DATASET.SYNTHETIC_DIR={street_root}"]
    plan = FoldPlan(directory=out, folds=2, train_flags=tuple(told))
    settings = read_settings(told)
    write_lists(plan, settings, train_items(settings))
    before = sorted(out.rglob("*"))
    line = error_of(capsys, "--result_dir", out, "--folds", 2, *told, "--lr", "0.5")
    assert "folds.json" in line and "0.5" in line and "another --result_dir" in line
    write_lists(plan, settings, train_items(settings))  # the same go on
    assert sorted(out.rglob("*")) == before
    with pytest.raises(UserError, match="not those that the folds were made of"):
        write_lists(plan, settings, train_items(settings)[1:])


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_shows_each_region_and_saves_what_is_ticked(
    width: int, dark: bool, tmp_path: Path, holdout: Path, chrome: Chrome
) -> None:
    out = tmp_path / "out"
    assert main(["--result_dir", str(out), "--predictions", str(holdout)]) == 0
    regions = json.loads((out / "label_noise.json").read_text())["annotations"]
    chrome.open(out / "label_noise.html", width, dark=dark)
    assert chrome.problems == []
    assert chrome.run("document.documentElement.scrollWidth") <= width
    assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}
    cards = "[...document.querySelectorAll('#regions > li')]"
    assert chrome.run(f"{cards}.length") == len(regions)
    text = chrome.run(f"{cards}[0].innerText")
    first: dict[str, Any] = regions[0]["attributes"]
    assert first["labelled"] in text and "car" in text and "image\nlabel\nprediction" in text
    pictures = chrome.run(
        f"Promise.all([...{cards}[0].querySelectorAll('img')].map("
        "(each) => each.decode().then(() => each.naturalWidth)))"
    )
    assert len(pictures) == 3 and min(pictures) >= 100
    chrome.run("find = document.getElementById('filter'); find.value = 'no such';"
               "find.dispatchEvent(new Event('input'))")  # fmt: skip
    assert chrome.run("document.getElementById('shown').textContent") == "0 regions"
    chrome.run("find.value = 'CAR'; find.dispatchEvent(new Event('input'))")
    chrome.save_downloads(tmp_path)
    chrome.run(
        f"{cards}[0].querySelector('input').click(); document.getElementById('save').click()"
    )
    saved = tmp_path / "skip.txt"
    chrome.wait("new Promise((done) => setTimeout(() => done(true), 300))")
    folder = json.loads((out / "label_noise.json").read_text())["info"]["folder"]
    assert saved.read_text().startswith(folder) and saved.read_text().count("\n") == 1
