# SPDX-License-Identifier: Apache-2.0
"""The four folders of HANet's evaluation, and the height bands in results and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from config import UserError
from datasets.bdd100k import SPEC as BDD
from metrics.bands import band_confusion, band_scores
from reports.hanet_dump import FourFoldersSink
from reports.page import write_page
from reports.results import make_results
from reports.sinks import DumpIdentity
from reports.submission import SubmissionSink
from tests.reports.cases import SIZE, SPEC, alone, make_items, make_result, make_summary, read

NAME = "lindau/lindau_000000_000019_leftImg8bit"


def dumped(folder: Path, **changes: object) -> FourFoldersSink:
    sink = FourFoldersSink(folder, SPEC, make_items(folder / "in", [NAME]), DumpIdentity(key="k"))
    sink.add(make_result(NAME, **changes))
    sink.close(0, 1, alone)
    return sink


def test_names_and_contents_are_the_published_ones(tmp_path: Path) -> None:
    dumped(tmp_path)
    stem, result = Path(NAME).name, make_result(NAME)
    mode, colors = read(tmp_path / "rgb" / f"{stem}_color.png")
    assert mode == "P" and np.array_equal(colors, result.pred)
    mode, ids = read(tmp_path / "pred" / f"{stem}.png")
    assert mode == "L" and np.array_equal(ids, np.array([7, 26, 23, 31])[result.pred])
    _, blend = read(tmp_path / "compose" / f"{stem}_compose.png")
    half = (result.image.astype(int) + np.array(SPEC.palette)[result.pred]) / 2
    assert np.abs(blend - half).max() <= 1
    _, diff = read(tmp_path / "diff" / f"{stem}_diff.png")
    wrong = (result.pred != result.label) & (result.label != 255)
    assert (diff[~wrong] == 255).all() and np.array_equal(diff[wrong], blend[wrong])


def test_without_label_there_is_no_diff(tmp_path: Path) -> None:
    dumped(tmp_path, label=None, confusion=None)
    assert not (tmp_path / "diff").exists()
    assert (tmp_path / "compose").is_dir()


def test_an_interrupted_dump_goes_on(tmp_path: Path) -> None:
    dumped(tmp_path)
    again = FourFoldersSink(
        tmp_path, SPEC, make_items(tmp_path / "in", [NAME]), DumpIdentity(key="k")
    )
    assert again.done(NAME) and not again.done("another")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    items = make_items(tmp_path, ["a/x", "b/x"])
    with pytest.raises(UserError, match="--dump_images: 2 images are named x"):
        FourFoldersSink(tmp_path, SPEC, items)


def test_bands_reach_results_and_report(tmp_path: Path) -> None:
    result = make_result("a")
    pred, label = torch.from_numpy(result.pred), torch.from_numpy(result.label)
    bands = band_scores(band_confusion(pred, label, 4, 255), SPEC.class_names)
    summary = make_results(make_summary([result], bands=bands), SPEC, {})
    assert list(summary["bands"]) == ["upper", "mid1", "mid2", "lower"]
    assert summary["bands"]["mid2"]["mean_iu"] == bands["mid2"].mean_iu
    assert summary["bands"]["lower"]["iou"][3] is None
    page = tmp_path / "index.html"
    write_page(page, title="t", spec=SPEC, summary=summary, rows=[], run={})
    text = page.read_text()
    for band, title in (("upper", "Upper"), ("mid1", "Mid 1"), ("lower", "Lower")):
        assert title in text and f"{100 * bands[band].mean_iu:.2f}" in text


def test_results_without_labels_have_no_bands(tmp_path: Path) -> None:
    summary = make_results(make_summary([], scores=None, loss=None), SPEC, {})
    assert summary["bands"] is None
    write_page(tmp_path / "i.html", title="t", spec=SPEC, summary=summary, rows=[], run={})
    assert "Height bands" not in (tmp_path / "i.html").read_text()


def test_bdd_submission_holds_train_ids_under_the_names_of_the_server(tmp_path: Path) -> None:
    names = ["cabc30fc-e7726578", "cabc30fc-eb673c5a"]
    sink = SubmissionSink(tmp_path, BDD, make_items(tmp_path / "in", names))
    for index, name in enumerate(names):
        sink.add(make_result(name, index))
    sink.close(0, 1, alone)
    assert sink.finish().is_file()
    mode, ids = read(tmp_path / "submit" / f"{names[1]}.png")
    assert mode == "L" and np.array_equal(ids, make_result("", 1).pred)


def test_bdd_submission_refuses_other_names_and_ids(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="bdd100k wants names like cabc30fc-e7726578.png"):
        SubmissionSink(tmp_path, BDD, make_items(tmp_path / "in", ["frame1"]))
    name = "cabc30fc-e7726578"
    sink = SubmissionSink(tmp_path, BDD, make_items(tmp_path / "in", [name]))
    sink.add(replace(make_result(name), pred=np.full(SIZE, 18, np.uint8)))
    sink.close(0, 1, alone)
    path = tmp_path / "submit" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="1 file wrong"):
        sink.finish()
