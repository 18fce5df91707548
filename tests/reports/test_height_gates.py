# SPDX-License-Identifier: Apache-2.0
"""Images of height gates: what they show, in the dump and on the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.height_gates import (
    AXIS,
    CURVE_WIDTH,
    FOOT,
    GAP,
    HEAD,
    MAP_WIDTH,
    gate_picture,
    gate_section,
    mean_curve,
)
from reports.image_dump import DumpSink
from reports.page import write_page
from reports.results import make_results
from reports.sinks import DumpIdentity
from tests.reports.cases import SPEC, alone, make_result, make_summary

BLUE = np.array([26, 115, 232])


def step_gate(channels: int = 40, rows: int = 8) -> np.ndarray:
    """Closed in the upper half of the image, open in the lower."""
    return np.repeat((np.arange(rows) >= rows // 2)[None], channels, 0).astype(np.float32)


def test_the_curve_is_the_mean_over_the_channels_from_the_top() -> None:
    gate = np.stack([np.zeros(4), np.array([0.0, 0.2, 0.6, 1.0])]).astype(np.float32)
    assert mean_curve(gate, 4) == [0.0, 0.1, 0.3, 0.5]
    curve = mean_curve(step_gate())
    assert len(curve) == 32 and curve[:12] == [0.0] * 12 and curve[-12:] == [1.0] * 12


@pytest.mark.parametrize("channels", [1, 40, 2048])
@pytest.mark.parametrize("size", [(64, 128), (1024, 2048), (33, 17)])
def test_image_curve_and_gate_stand_side_by_side(channels: int, size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    picture = gate_picture(image, step_gate(channels), "a hanet0")
    height = picture.shape[0] - HEAD - FOOT
    width = picture.shape[1] - AXIS - GAP - CURVE_WIDTH - MAP_WIDTH
    assert width <= 512 and height <= 320
    assert width / height == pytest.approx(size[1] / size[0], rel=0.05)
    shown = picture[HEAD:-FOOT]
    photo, gates = shown[:, :width], shown[:, -MAP_WIDTH:].astype(int)
    assert (photo == 77).all()
    # dark at the top, bright below
    assert gates[: height // 3].sum(2).max() < gates[-(height // 3) :].sum(2).min()
    curve = shown[:, width + AXIS : width + AXIS + CURVE_WIDTH].astype(int)
    blue = np.abs(curve - BLUE).sum(2) == 0
    assert blue[: height // 3, : CURVE_WIDTH // 4].any()
    assert not blue[: height // 3, CURVE_WIDTH // 2 :].any()
    assert blue[-(height // 3) :, -CURVE_WIDTH // 4 :].any()


def test_channels_are_sorted_by_the_height_at_which_they_are_open() -> None:
    gate = np.eye(8, dtype=np.float32)[[5, 2, 7, 0, 1, 6, 3, 4]]
    picture = gate_picture(np.zeros((80, 80, 3), np.uint8), gate, "")
    assert brightest(picture) == sorted(brightest(picture))
    assert brightest(picture)[0] < brightest(picture)[-1]
    axis = picture[HEAD:, -MAP_WIDTH - GAP - CURVE_WIDTH - AXIS : -MAP_WIDTH]
    assert (axis[:-FOOT, : AXIS - 5] < 100).any(), "no heights beside the curve"
    assert (axis[-FOOT:, AXIS:] < 100).any(), "no values under the curve"
    assert (picture[-FOOT:, -MAP_WIDTH:] < 100).any(), "no text under the gates"


def brightest(picture: np.ndarray) -> list[int]:
    """The row of the largest gate of each of eight channels."""
    bright = picture[HEAD : HEAD + 320, -MAP_WIDTH:].astype(int).sum(2)
    return [int(bright[:, (2 * k + 1) * MAP_WIDTH // 16].argmax()) for k in range(8)]


def test_channels_that_are_classes_keep_their_order_over_names_and_colours() -> None:
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    gate = np.eye(8, dtype=np.float32)[order]
    image, classes = np.zeros((80, 80, 3), np.uint8), [(f"class {k}", (k, 9, 9)) for k in range(8)]
    picture = gate_picture(image, gate, "", classes)
    assert [round(row / 320 * 8 - 0.5) for row in brightest(picture)] == order
    swatches = picture[HEAD + 320 + 5, -MAP_WIDTH:][MAP_WIDTH // 16 :: MAP_WIDTH // 8]
    assert swatches.tolist() == [[k, 9, 9] for k in range(8)]
    assert len(picture) > HEAD + 320 + FOOT, "no names"
    many = [("x", (9, 9, 9))] * 150
    picture = gate_picture(image, step_gate(150), "", many)
    assert len(picture) == HEAD + 320 + FOOT


def dumped(folder: Path, gates: bool) -> DumpSink:
    sink = DumpSink(folder, SPEC, gates=gates)
    for index, name in enumerate(["city/a", "b"]):
        own = {"gate_0": step_gate(), "gate_3": 1 - step_gate(5, 4)}
        sink.add(make_result(name, index, gates=own))
    sink.close(0, 1, alone)
    return sink


def test_a_dump_writes_one_picture_a_block_and_the_page_shows_them(tmp_path: Path) -> None:
    sink = dumped(tmp_path, gates=True)
    assert sink.needs == {"image", "gates"}
    with Image.open(tmp_path / "city/a_gate_0.png") as picture:
        assert picture.height > 100
    assert (tmp_path / "b_gate_3.png").exists()
    summary = make_results(
        make_summary([make_result("city/a")]), SPEC, {"arch": "hanet.X", "dataset": "streets"}
    )
    write_page(
        tmp_path / "index.html", title="t", spec=SPEC, summary=summary, rows=sink.rows, run={}
    )
    text = (tmp_path / "index.html").read_text()
    assert "Height attention" in text and text.count("<polyline") == 2
    assert "Gates 0" in text and "Gates 3" in text
    assert re.search(r"hanet0</td>\s*<td class=\"right num\">0.50", text)
    assert "city/a_gate_0.png" in text


def test_without_the_flag_nothing_of_it_is_written(tmp_path: Path) -> None:
    sink = dumped(tmp_path, gates=False)
    assert sink.needs == {"image"}
    assert not list(tmp_path.rglob("*gate*"))
    assert gate_section(sink.rows) == []


def test_a_dump_with_gates_does_not_continue_one_without(tmp_path: Path) -> None:
    for gates, known in ((False, False), (False, True), (True, False), (True, True)):
        sink = DumpSink(tmp_path, SPEC, DumpIdentity(key="k"), gates=gates)
        assert sink.done("b") == known
        sink.add(make_result("b", gates={"gate_0": step_gate()}))
        sink.close(0, 1, alone)


def test_the_section_averages_over_the_images(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, gates=True)
    for index, gate in enumerate((step_gate(), 1 - step_gate())):
        sink.add(make_result(f"x{index}", index, gates={"gate_1": gate}))
    sink.close(0, 1, alone)
    (section,) = gate_section(sink.rows)
    assert section["name"] == "hanet1" and section["images"] == 2
    values = [float(point.split(",")[0]) for point in section["points"].split()]
    assert values == pytest.approx([50.0] * 32, abs=0.2)
