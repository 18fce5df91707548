# SPDX-License-Identifier: Apache-2.0
"""The page of one network on several sets, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metrics.domains import Domain
from reports.domains_page import Measured, Network, write_domains
from tests.reports.cases import SPEC
from tests.reports.chrome import Chrome

ROWS = "[...document.querySelectorAll('#matrix tbody tr')].map((row) => row.innerText)"
MEANS = "[...document.querySelectorAll('#matrix tfoot tr')].map((row) => row.innerText)"
NETWORK = Network(
    spec=SPEC,  # road, car, sky, tram
    meanings=[frozenset(text.split()) for text in ("road", "car", "sky", "train")],
)
HOME = np.diag([900, 90, 400, 10]) + 5
AWAY = np.array([[300, 100, 0, 0], [0, 40, 0, 10], [7, 0, 0, 0]])


def a_page(directory: Path) -> str:
    """Three sets: the network's own, one of other classes, one that is missing."""
    own = Domain(
        name="streets", class_names=SPEC.class_names, meanings=NETWORK.meanings, counts=HOME
    )
    away = Domain(
        name="toys", class_names=("way", "<vehicle>", "dog"),
        meanings=[frozenset({"road"}), frozenset({"car", "train"}), frozenset()], counts=AWAY,
    )  # fmt: skip
    measured = [
        Measured(name="streets", split="val", is_home=True, domain=own, images=12, seconds=3),
        Measured(name="gone", split="val", problem="DATASET.<GONE> is not set"),
        Measured(name="toys", split="val", domain=away, images=3, seconds=1),
    ]
    protocol = {"arch": "ocrnet.HRNet", "dataset": "streets", "n_scales": (0.5, 1.0)}
    return write_domains(directory, NETWORK, measured, protocol)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_the_page_shows_each_class_on_each_set(
    tmp_path: Path, width: int, dark: bool, chrome: Chrome
) -> None:
    a_page(tmp_path)
    chrome.open(tmp_path / "domains.html", width, dark=dark)
    assert chrome.problems == []
    assert chrome.run("document.documentElement.scrollWidth") <= width
    rows = [row.replace("\n", "\t").replace("\t\t", "\t").split("\t") for row in chrome.run(ROWS)]
    assert rows == [
        ["road", "96.79", "75.00"],
        ["car + tram", "car, train", "75.00", "33.33"],
        ["car", "76.00", "·"],
        ["tram", "train", "33.33", "·"],
        ["sky", "93.10", "–"],
    ]
    means = [row.split("\t") for row in chrome.run(MEANS)]
    assert [row[0] for row in means] == [
        "mean IoU", "pixel accuracy", "mean IoU of the 2 common", "lost or gained",
    ]  # fmt: skip
    assert means[0][1:] == ["74.81 (4)", "54.17 (2)"]
    assert means[3][1:] == ["+0.00", "-31.73"]
    text = chrome.run("document.body.innerText")
    assert "gone: DATASET.<GONE> is not set" in text and "–: the set has no such class" in text
    chrome.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    mapping = chrome.run("document.getElementById('mapping').innerText")
    assert "car + tram\tcar + tram\t<vehicle>" in mapping
    assert "dog" in chrome.run("document.getElementById('sets').innerText")
    chrome.run("document.querySelectorAll('#matrix button')[1].click()")
    first = chrome.run(ROWS)[0]
    assert first.startswith("road"), first
    assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}


def test_text_and_json_say_the_same(tmp_path: Path) -> None:
    lines = a_page(tmp_path).splitlines()
    assert lines[0].split() == ["IoU", "%", "streets", "toys"]
    assert lines[2].split() == ["car", "+", "tram", "75.00", "33.33"]
    assert lines[3].startswith("  car ") and lines[3].split()[1:] == ["76.00", "·"]
    found = json.loads((tmp_path / "domains.json").read_text())
    assert found["sets"]["gone"] == {"split": "val", "problem": "DATASET.<GONE> is not set"}
    assert found["sets"]["toys"]["not_compared"] == ["dog"]
    assert [row["part"] for row in found["rows"]] == [False, False, True, True, False]
    cells = [row["sets"]["toys"] for row in found["rows"]]
    assert [cell["state"] for cell in cells] == ["scored", "scored", "merged", "merged", "lacking"]
    assert cells[0]["iou"] == 0.75 and cells[2]["iou"] is None
    assert found["common_rows"] == 2
    assert found["sets"]["toys"]["mean_iu_common"] == found["sets"]["toys"]["mean_iu"]
