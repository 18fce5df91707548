# SPDX-License-Identifier: Apache-2.0
"""Dumped images: names, pixels, every image once, and a dump that continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.image_dump import DumpSink
from reports.sinks import DumpIdentity
from tests.full_disk import REASON, full_after
from tests.reports.cases import SPEC, alone, make_result, read


def visible(folder: Path) -> set[str]:
    """Relative names of the files that are not hidden."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def test_names_keep_their_sub_folders(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC)
    for name in ("a/x", "b/x", "y"):
        sink.add(make_result(name))
    kinds = ("{}_input.png", "{}_gt.png", "{}_prediction.png", "composited_{}.png")
    places = (("a/", "x"), ("b/", "x"), ("", "y"))
    expected = {folder + kind.format(name) for folder, name in places for kind in kinds}
    assert visible(tmp_path) == expected


def test_assets_add_confidence_error_attention_and_scale_maps(tmp_path: Path) -> None:
    result = make_result("x")
    sink = DumpSink(tmp_path, SPEC, assets=True)
    assert sink.needs == {"image", "prob", "assets"}
    sink.add(result)
    mode, pixels = read(tmp_path / "x_prob_mask.png")
    assert mode == "RGB"
    assert np.array_equal(pixels[:, :, 1], (result.prob * 255).astype(np.uint8))
    _, errors = read(tmp_path / "x_err_mask.png")
    expected = (result.pred != result.label) & (result.label != 255)
    assert np.array_equal(errors[:, :, 0], expected * 255)
    mode, scale = read(tmp_path / "x_pred_05x.png")
    assert mode == "P" and np.array_equal(scale, result.assets["pred_05x"])
    mode, attention = read(tmp_path / "x_attn_05x.png")
    assert mode == "RGB" and attention.shape == (6, 8, 3)


def test_palette_pictures_hold_ids_and_show_class_colours(tmp_path: Path) -> None:
    from PIL import Image

    result = make_result("x")
    DumpSink(tmp_path, SPEC).add(result)
    mode, ids = read(tmp_path / "x_gt.png")
    assert mode == "P" and np.array_equal(ids, result.label)
    with Image.open(tmp_path / "x_prediction.png") as picture:
        colors = np.asarray(picture.convert("RGB"))
    assert np.array_equal(colors, np.array(SPEC.palette, np.uint8)[result.pred])
    _, blend = read(tmp_path / "composited_x.png")
    assert np.abs(blend - (0.6 * result.image + 0.4 * colors)).max() <= 1


def test_every_nth_image_is_chosen_by_its_place_in_the_data_set(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, every=3)
    assert [index for index in range(8) if sink.wants(index)] == [0, 3, 6]


def test_an_image_without_label_has_no_ground_truth_and_no_errors(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, assets=True)
    sink.add(make_result("x", label=None, confusion=None))
    sink.close(0, 1, alone)
    assert not visible(tmp_path) & {"x_gt.png", "x_err_mask.png"}
    assert sink.rows[0].mean_iu is None and "gt" not in sink.rows[0].files


def test_rows_carry_the_scores_and_the_largest_mistakes_of_the_image(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC)
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[2, 2], matrix[2, 0] = 60, 10, 27, 3
    sink.add(make_result("x", confusion=matrix))
    sink.close(0, 1, alone)
    row = sink.rows[0]
    assert row.accuracy == pytest.approx(0.87)
    assert row.mean_iu == pytest.approx((60 / 73 + 0 + 27 / 30) / 3)
    assert row.mistakes == ((0, 1, 0.1), (2, 0, 0.03))


def test_an_interrupted_dump_continues_with_the_same_key_only(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, DumpIdentity(key="one"))
    sink.add(make_result("a", 0))
    sink.add(make_result("b", 1))
    with sink.stored.path.open("a") as file:
        file.write('{"name": "torn')
    again = DumpSink(tmp_path, SPEC, DumpIdentity(key="one"))
    assert again.done("a") and again.done("b") and not again.done("torn")
    again.add(make_result("c", 2))
    again.close(0, 1, alone)
    assert [row.name for row in again.rows] == ["a", "b", "c"]
    assert not DumpSink(tmp_path, SPEC, DumpIdentity(key="two")).done("a")
    assert not DumpSink(tmp_path, SPEC, DumpIdentity(key="one"), assets=True).done("a")
    assert not DumpSink(tmp_path, SPEC).done("a")


def test_an_image_whose_file_is_gone_is_dumped_again(tmp_path: Path) -> None:
    DumpSink(tmp_path, SPEC, DumpIdentity(key="k")).add(make_result("a"))
    (tmp_path / "a_gt.png").unlink()
    assert not DumpSink(tmp_path, SPEC, DumpIdentity(key="k")).done("a")


def test_a_damaged_line_of_the_list_is_not_trusted(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, DumpIdentity(key="k"))
    sink.add(make_result("a"))
    lines = sink.stored.path.read_text().splitlines()
    lines += ["{broken}", lines[1].replace('"a"', '"b"'), ""]
    sink.stored.path.write_text("\n".join(lines))
    again = DumpSink(tmp_path, SPEC, DumpIdentity(key="k"))
    assert again.done("a") and not again.done("b")


def test_ranks_continue_each_others_work_and_share_their_rows(tmp_path: Path) -> None:
    for rank in (0, 1):
        DumpSink(tmp_path, SPEC, DumpIdentity(key="k", rank=rank)).add(
            make_result(f"n{rank}", rank)
        )
    alone_now = DumpSink(tmp_path, SPEC, DumpIdentity(key="k"))
    assert alone_now.done("n0") and alone_now.done("n1")
    first = DumpSink(tmp_path / "new", SPEC, DumpIdentity(rank=0))
    other = DumpSink(tmp_path / "new", SPEC, DumpIdentity(rank=1))
    first.add(make_result("n0", 0))
    other.add(make_result("n1", 1))
    first.close(0, 2, lambda rows: [rows, other.stored.rows])
    assert [row.name for row in first.rows] == ["n0", "n1"]


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC)
    sink.add(make_result("x", 1))
    before = (tmp_path / "x_input.png").read_bytes()
    with full_after(10), pytest.raises(OSError, match=REASON):
        sink.add(make_result("x", 2))
    assert (tmp_path / "x_input.png").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize(("name", "stored"), [("/etc/x", "etc/x"), ("a/./x", "a/x")])
def test_names_can_not_leave_the_directory(tmp_path: Path, name: str, stored: str) -> None:
    sink = DumpSink(tmp_path, SPEC)
    sink.add(make_result(name))
    assert (tmp_path / f"{stored}_input.png").exists()
    with pytest.raises(ValueError, match="leave the output directory"):
        sink.add(make_result("../x"))


def test_the_list_of_stored_images_is_plain_json_lines(tmp_path: Path) -> None:
    sink = DumpSink(tmp_path, SPEC, DumpIdentity(key="k"))
    sink.add(make_result("x"))
    header, row = (json.loads(line) for line in sink.stored.path.read_text().splitlines())
    content: dict[str, Any] = row
    assert "k" in header["key"] and content["files"]["gt"] == "x_gt.png"
