# SPDX-License-Identifier: Apache-2.0
"""reports.compare: what differs between two runs, in a real browser, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metrics.confusion import confusion_matrix
from metrics.result import ImageResult
from reports.compare import main
from reports.image_dump import PICTURES, DumpSink
from reports.image_scores import FILE, LAST_FILE, ImageScoresSink
from reports.sinks import NEW_DUMP
from reports.trees import TreePlan, TreeSink
from tests.reports.cases import SPEC, alone, make_items, make_result
from tests.reports.chrome import Chrome

FLAGS = {"dataset": "streets", "eval": "val", "snapshot": "/nowhere/best_checkpoint_ep3.pth"}
ROWS = "[...document.querySelectorAll('#scores tbody tr')].map((row) => row.innerText.split('\\t'))"


def results_of(wrong: float, count: int = 12, folder: str = "city") -> list[ImageResult]:
    """Images with this share of guesses; the labels are the same whatever the share."""
    return [make_result(f"{folder}/x{index}", index, wrong) for index in range(count)]


def write_run(
    folder: Path,
    results: list[ImageResult],
    flags: dict[str, Any] | None = None,
    spec: Any = SPEC,
    **facts: Any,
) -> Path:
    """The files of an evaluation, or with an `epoch` those of a training."""
    folder.mkdir(parents=True, exist_ok=True)
    flags = {**({} if "epoch" in facts else FLAGS), **(flags or {})}
    data = {"root": "/data", "val": {"images": len(results), "digest": "d1"}}
    content = {"flags": flags, "versions": {"torch": "2.14"}, "git": "abc", "data": data}
    (folder / "run.json").write_text(json.dumps(content))
    sinks = [ImageScoresSink(spec)]
    if flags.get("dump_all_images"):
        sinks.append(DumpSink(folder / PICTURES, spec, NEW_DUMP))
    for result in results:
        for sink in sinks:
            sink.add(result)
    for sink in sinks:
        sink.close(0, 1, alone)
    sinks[0].write(folder / FILE, **facts)
    return folder


def compared(capsys: pytest.CaptureFixture[str], *argv: Any) -> tuple[dict[str, Any], str]:
    """compare.json and what was printed."""
    assert main(list(map(str, argv))) == 0
    shown = capsys.readouterr().out
    page = Path(shown.splitlines()[-1].removeprefix("page: "))
    return json.loads(page.with_suffix(".json").read_text()), shown


def refused(capsys: pytest.CaptureFixture[str], *argv: Any) -> str:
    """The one line of wrong input."""
    assert main(list(map(str, argv))) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_shows_scores_differences_and_images(
    tmp_path: Path, width: int, dark: bool, chrome: Chrome, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"dump_all_images": True}
    a = write_run(tmp_path / "<i>a", results_of(0.6), {**flags, "do_flip": False})
    b = write_run(tmp_path / "b", results_of(0.1), {**flags, "do_flip": True, "tag": "<b>"})
    content, shown = compared(capsys, a, b)
    chrome.open(b / "compare.html", width, dark=dark)
    assert chrome.problems == []
    assert chrome.run("document.documentElement.scrollWidth") <= width
    assert "B is better: +" in chrome.run("document.querySelector('#verdict').innerText")
    rows = chrome.run(ROWS)
    assert [row[0] for row in rows] == [*SPEC.class_names, "mean IoU", "pixel accuracy",
                                        "mean class accuracy"]  # fmt: skip
    assert [row[2] for row in rows] == [*["better"] * 3, "not labelled", *["better"] * 3]
    numbers = {row["name"]: row for row in content["classes"]}
    assert float(rows[0][1]) == pytest.approx(numbers["road"]["difference"], abs=0.006)
    bars = chrome.run("[...document.querySelectorAll('.forest b')].map((b) => b.offsetLeft)")
    middle = chrome.run("document.querySelector('.forest').offsetWidth") / 2
    assert len(bars) == 6 and min(bars) >= middle
    differing = chrome.run("document.querySelector('.differences').innerText").split()
    assert differing == ["A", "B", "do_flip", "–", "true", "tag", "–", "<b>"]
    figures = chrome.run(
        "[...document.querySelectorAll('.shots')].map((each) => [...each.querySelectorAll('img')]"
        ".map((img) => [img.alt.split(' ')[0], img.naturalWidth, img.naturalHeight]))"
    )
    kinds = ["image", "label", "A", "B", "change"]
    assert len(figures) == 8
    assert all(each == [[kind, 16, 12] for kind in kinds] for each in figures)
    assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}
    chrome.run("document.querySelectorAll('#scores thead button')[1].click()")  # largest first
    assert chrome.run(ROWS)[-1][0] == "tram"
    chrome.run("document.querySelector('#verdict p').textContent = 'x'.repeat(300)")
    assert chrome.run("document.documentElement.scrollWidth") <= width, "of a very long name"


def test_printed_lines_tell_what_differs_and_whether_it_is_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", results_of(0.3), {"lr": 0.1})
    b = write_run(tmp_path / "b", results_of(0.1), {"lr": 0.2})
    content, shown = compared(capsys, a, b)
    lines = shown.splitlines()
    assert lines[:2] == [
        f"A: {a} (val of streets, 12 images)", f"B: {b} (val of streets, 12 images)",
    ]  # fmt: skip
    assert ["lr", "0.1", "0.2"] in [line.split() for line in lines]
    mean = content["scores"]["mean_iu"]
    expected = f"{mean['difference']:+.2f}"
    row = next(line for line in lines if line.startswith("mean IoU"))
    assert row.split()[2:] == [
        "12", f"{mean['a']:.2f}", f"{mean['b']:.2f}", expected, f"{mean['low']:+.2f}", "to",
        f"{mean['high']:+.2f}", "better",
    ]  # fmt: skip
    assert f"B is better: {expected} points of mean IoU, 95 % interval" in shown
    assert "3 of 3 classes differ by more than noise (road, car, sky)" in shown
    assert "note: no pictures, because not both runs dumped predictions: python eval.py" in shown
    assert content["verdict"] == "better" and content["images"] == 12
    assert compared(capsys, b, a)[0]["verdict"] == "worse"
    same, shown = compared(capsys, a, a)
    assert same["verdict"] == "within noise" and same["changed"] == []
    assert "Within noise: +0.00 points" in shown and not same["differences"]


def test_trainings_and_checkpoints_are_compared_by_their_validations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", results_of(0.1), {"seed": 1}, epoch=3, iteration=30)
    for name in ("best_checkpoint_ep3.pth", "last_checkpoint_ep4.pth"):
        (run / name).touch()
    (run / FILE).rename(run / LAST_FILE)
    write_run(run, results_of(0.1), {"seed": 1}, epoch=3, iteration=30)
    other = write_run(tmp_path / "other", results_of(0.2), {"seed": 2}, epoch=5, iteration=50)
    content, shown = compared(capsys, other, run / "best_checkpoint_ep3.pth")
    assert content["b"]["what"] == "validation of a data set, 12 images, epoch 3"
    assert content["differences"] == {"Training: settings": [["seed", "2", "1"]]}
    (note,) = content["notes"]
    assert note.startswith("the trainings differ by their seed alone")
    assert compared(capsys, other, run)[0]["classes"] == content["classes"]
    late, _ = compared(capsys, run, run / "last_checkpoint_ep4.pth")
    assert any("scores of epoch 3, but the checkpoint is of epoch 4" in n for n in late["notes"])
    flags = {"snapshot": str(run / "best_checkpoint_ep3.pth")}
    evaluated = write_run(tmp_path / "ev", results_of(0.1), flags, not_finite=2)
    mixed, _ = compared(capsys, other, evaluated)
    assert mixed["differences"] == {"Training: settings": [["seed", "2", "1"]]}
    assert any("NaN or infinite scores in 2 images" in note for note in mixed["notes"])
    assert any("one is a validation of a training" in note for note in mixed["notes"])


def test_other_labels_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_run(tmp_path / "a", results_of(0.1))
    results = results_of(0.1)
    label = results[4].label.copy()
    label[6:] = 255
    matrix = confusion_matrix(torch.from_numpy(results[4].pred), torch.from_numpy(label), 4)
    results[4] = make_result("city/x4", 4, 0.1, label=label, confusion=matrix.numpy())
    b = write_run(tmp_path / "b", results)
    assert "note: the labels differ in 1 of 12 images" in compared(capsys, a, b)[1]


def test_pictures_of_an_earlier_evaluation_in_the_folder_are_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"dump_all_images": True}
    a = write_run(tmp_path / "a", results_of(0.5), flags)
    write_run(tmp_path / "b", results_of(0.1), flags)
    b = write_run(tmp_path / "b", results_of(0.2))
    assert "note: no pictures" in compared(capsys, a, b)[1]
    assert "data:image" not in (b / "compare.html").read_text()


def test_trees_of_other_tools_give_pictures_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Colours of the classes, and the image itself where its list says it is."""
    items = make_items(tmp_path / "images", [result.name for result in results_of(0.1)])
    sides = []
    for name, wrong in (("a", 0.5), ("b", 0.1)):
        folder = write_run(tmp_path / name, results_of(wrong), {"dump_color": True})
        sink = TreeSink(folder, SPEC, items, TreePlan(color=True))
        for result in results_of(wrong):
            sink.add(replace(result, confidence=0.5))
        sink.close(0, 1, alone)
        sink.report({})
        sides.append(folder)
    assert "note: no pictures" not in compared(capsys, *sides)[1]
    page = (sides[1] / "compare.html").read_text()
    counts = [page.count(f'alt="{kind} of city/x') for kind in ("image", "label", "A", "B")]
    assert counts == [8, 0, 8, 8]


def test_damaged_pictures_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {"dump_all_images": True}
    a = write_run(tmp_path / "a", results_of(0.5), flags)
    b = write_run(tmp_path / "b", results_of(0.1), flags)
    for path in (b / PICTURES / "city").glob("*_prediction.png"):
        path.write_bytes(b"\x89PNG")
    compared(capsys, a, b)
    page = (b / "compare.html").read_text()
    assert page.count('alt="A of') == 8 and 'alt="B of' not in page and "change of" not in page


def test_runs_on_different_images_are_refused_or_compared_on_the_common_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", results_of(0.3))
    fewer = [result for result in results_of(0.1) if result.index not in (3, 5)]
    b = write_run(tmp_path / "b", [*fewer, make_result("city/y", 20)])
    line = refused(capsys, a, b)
    assert "runs on different images: 2 only in" in line and "(city/x3, city/x5)" in line
    assert "1 only in" in line and "--common compares the 10 that both have" in line
    assert not (b / "compare.html").exists()
    content, _ = compared(capsys, a, b, "--common")
    assert content["images"] == 10
    assert content["scores"] == compared(capsys, a, write_run(tmp_path / "c", fewer),
                                         "--common")[0]["scores"]  # fmt: skip
    far = write_run(tmp_path / "far", results_of(0.1, folder="other"))
    assert "runs on different images" in refused(capsys, a, far, "--common")


def test_what_cannot_be_compared_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write_run(tmp_path / "a", results_of(0.3))
    spec = SPEC.__class__(**{**SPEC.__dict__, "class_names": ("road", "car", "sky", "bus")})
    other = write_run(tmp_path / "other", results_of(0.3), spec=spec)
    assert "runs of different classes" in refused(capsys, a, other)
    assert "no such file or folder" in refused(capsys, a, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "no run and no evaluation" in refused(capsys, a, tmp_path / "empty")
    run = tmp_path / "my run"
    run.mkdir()
    facts: dict[str, Any] = {"flags": {"eval": None}}
    for flags, words in (
        ({"eval": None}, f"python eval.py --from_run '{run}' --result_dir '{run}' writes it"),
        ({**FLAGS, "eval": "test"}, "python eval.py --dataset streets --eval test --snapshot"),
        ({**FLAGS, "eval": "folder"}, "its images were not compared with labels"),
        ({**FLAGS, "task": "classify"}, "a classifier"),
    ):
        facts["flags"] = flags
        (run / "run.json").write_text(json.dumps(facts))
        assert words in refused(capsys, a, run)
    facts["flags"] = {"eval": None}
    (run / "run.json").write_text(json.dumps(facts))
    (run / "last_checkpoint_ep3.pth").touch()
    line = refused(capsys, a, run / "last_checkpoint_ep3.pth")
    assert f"holds no {LAST_FILE}; python eval.py --from_run '{run}' --snapshot '{run}/last" in line
    (run / FILE).write_text("{}")
    assert "is damaged" in refused(capsys, a, run)
    for name, value in (("--draws", 9), ("--images", -1), ("--seed", -1)):
        assert f"{name} {value}" in refused(capsys, a, a, name, value)
    assert "--out PAGE" in refused(capsys, a, a, "--out", a / "run.json" / "x.html")
    before = (a / "run.json").read_bytes()
    for name in ("run.html", "new.json"):
        assert "is another file" in refused(capsys, a, a, "--out", a / name)
    assert (a / "run.json").read_bytes() == before and not (a / "run.html").exists()


def test_odd_names_are_shown_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["caf\udce9", "a\nb", "<img src=x>", "漢" * 83, *(f"x{i}" for i in range(4))]
    sides = []
    for folder, wrong in (("\udce9t\u00e9", 0.6), ("b", 0.1)):
        flags = {"dump_all_images": True}
        results = [make_result(name, index, wrong) for index, name in enumerate(names)]
        sides.append(write_run(tmp_path / folder, results, flags))
    content, shown = compared(capsys, *sides)
    assert {image["name"] for image in content["changed"]} == set(names)
    page = (sides[1] / "compare.html").read_text()
    assert "<img src=x>" not in page and page.count("data:image") == 5 * len(names)


def test_a_picture_of_the_change_tells_gains_from_losses(tmp_path: Path) -> None:
    from reports.changed_images import GAINED, LOST, OTHER, _change

    label = np.array([[0, 0, 1, 1, 255]], np.uint8)
    a = np.array([[0, 1, 1, 2, 0]], np.uint8)
    b = np.array([[0, 0, 0, 3, 1]], np.uint8)
    picture = _change(label, a, b, 4)
    assert picture is not None
    assert np.asarray(picture).tolist() == [[0, GAINED, LOST, OTHER, 0]]
    assert _change(label, a[:, :3], b, 4) is None
