# SPDX-License-Identifier: Apache-2.0
"""Dumps are redone when an image, its label, the class table or a setting changed, not else."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assembly.dump_key import evaluation_key, image_stamps
from config import ModelConfig
from datasets.spec import DatasetSpec, Item
from reports.autolabel import AutoLabelSink
from reports.hanet_dump import FourFoldersSink
from reports.image_dump import DumpSink
from reports.sinks import DumpIdentity, ResumableSink
from reports.submission import SubmissionSink
from settings import Settings, catalogue, read_settings
from settings.catalogue import with_values
from settings.declare import Declaration, Group
from tests.reports.cases import SPEC, alone, make_items, make_result

NAMES = ["a", "b", "c"]
Open = Callable[[Path, list[Item], DatasetSpec, str], ResumableSink]


def pictures(out: Path, items: list[Item], spec: DatasetSpec, key: str, **kind: Any) -> DumpSink:
    return DumpSink(out, spec, DumpIdentity(key=key, images=image_stamps(items)), **kind)


def gates(out: Path, items: list[Item], spec: DatasetSpec, key: str) -> DumpSink:
    return pictures(out, items, spec, key, gates=True)


def assets(out: Path, items: list[Item], spec: DatasetSpec, key: str) -> DumpSink:
    return pictures(out, items, spec, key, assets=True)


def submission(out: Path, items: list[Item], spec: DatasetSpec, key: str) -> SubmissionSink:
    return SubmissionSink(out, spec, items, DumpIdentity(key=key, images=image_stamps(items)))


def auto(out: Path, items: list[Item], spec: DatasetSpec, key: str) -> AutoLabelSink:
    return AutoLabelSink(out, spec, items, DumpIdentity(key=key, images=image_stamps(items)))


def four(out: Path, items: list[Item], spec: DatasetSpec, key: str) -> FourFoldersSink:
    return FourFoldersSink(out, spec, items, DumpIdentity(key=key, images=image_stamps(items)))


def arguments(*flags: str) -> Settings:
    return read_settings(["--eval", "folder", "--eval_folder", "x", *flags], "eval.py")


def key_of(spec: DatasetSpec = SPEC, *flags: str, model: ModelConfig | None = None) -> str:
    told = arguments(*flags)
    told = replace(told, MODEL=model or told.MODEL)
    return evaluation_key(told, {"arch": told.network.arch}, spec, "fp32")


@pytest.mark.parametrize("kind", [pictures, gates, assets, submission, auto, four])
def test_only_the_image_that_changed_is_stored_again(tmp_path: Path, kind: Open) -> None:
    items, key = make_items(tmp_path / "in", NAMES), key_of()
    first = kind(tmp_path / "out", items, SPEC, key)
    for index, name in enumerate(NAMES):
        first.add(make_result(name, index))
    first.close(0, 1, alone)
    again = kind(tmp_path / "out", items, SPEC, key)
    assert [again.done(name) for name in NAMES] == [True, True, True]

    Image.new("RGB", (16, 12), (9, 9, 9)).save(items[1].image)
    os.utime(items[1].image, ns=(1, 1))
    third = kind(tmp_path / "out", items, SPEC, key)
    assert [third.done(name) for name in NAMES] == [True, False, True]
    third.add(make_result("b", 1))
    last = kind(tmp_path / "out", items, SPEC, key)
    assert [last.done(name) for name in NAMES] == [True, True, True]


@pytest.mark.parametrize("kind", [pictures, gates, assets, submission, auto, four])
def test_another_class_table_stores_all_again(tmp_path: Path, kind: Open) -> None:
    items = make_items(tmp_path / "in", NAMES)
    kind(tmp_path / "out", items, SPEC, key_of()).add(make_result("a"))
    swapped = dataclasses.replace(
        SPEC,
        id_to_train_id={0: 255, 26: 0, 7: 1, 23: 2, 31: 3},
        train_id_to_id=(26, 7, 23, 31),
    )
    assert kind(tmp_path / "out", items, SPEC, key_of()).done("a")
    assert not kind(tmp_path / "out", items, swapped, key_of(swapped)).done("a")


def test_every_part_of_the_class_table_counts() -> None:
    changes = [
        {"palette": ((1, 2, 3), *SPEC.palette[1:])},
        {"class_names": ("way", *SPEC.class_names[1:])},
        {"id_to_train_id": {**SPEC.id_to_train_id, 40: 0}},
        {"train_id_to_id": (8, 26, 23, 31)},
        {"ignore_label": 254, "id_to_train_id": {7: 0, 26: 1, 23: 2, 31: 3}},
    ]
    keys = {key_of(dataclasses.replace(SPEC, **change)) for change in changes}
    assert len(keys | {key_of()}) == len(changes) + 1


def test_settings_that_change_a_file_count_and_others_do_not() -> None:
    other = [
        ("--do_flip",), ("--precision", "bf16"), ("--pre_size", "64"), ("--map_crop_val",),
        ("--slide_crop", "64,64", "--slide_stride", "32,32"), ("--no_pos_dataset",),
    ]  # fmt: skip
    keys = {key_of(SPEC, *flags) for flags in other}
    keys.add(key_of(model=ModelConfig(ocr_mid_channels=8)))
    assert len(keys | {key_of()}) == len(other) + 2
    for flags in (("--num_workers", "0"), ("--bs_val", "2"), ("--result_dir", "elsewhere"),
                  ("--dump_all_images",), ("--no_progress",)):  # fmt: skip
        assert key_of(SPEC, *flags) == key_of()


def test_a_label_that_changed_counts_as_well(tmp_path: Path) -> None:
    (item,) = make_items(tmp_path, ["a"])
    label = tmp_path / "label.png"
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(label)
    labelled = [dataclasses.replace(item, label=label)]
    before = image_stamps(labelled)
    os.utime(label, ns=(1, 1))
    assert image_stamps(labelled) != before != image_stamps([item])


def test_images_that_are_gone_leave_the_rows_and_positions_follow_the_set(tmp_path: Path) -> None:
    items = make_items(tmp_path / "in", NAMES)
    sink = pictures(tmp_path / "out", items, SPEC, "k")
    for index, name in enumerate(NAMES):
        sink.add(make_result(name, index))
    fewer = pictures(tmp_path / "out", items[1:], SPEC, "k")
    fewer.close(0, 1, alone)
    assert [(row.name, row.index) for row in fewer.rows] == [("b", 0), ("c", 1)]


def test_missing_files_have_a_stamp_too(tmp_path: Path) -> None:
    dead = tmp_path / "dead.png"
    dead.symlink_to(tmp_path / "nowhere")
    assert "dead" in image_stamps([Item(name="dead", image=dead, label=None)])


def test_a_switch_makes_another_key_unless_it_is_declared_to_change_no_file() -> None:
    told = arguments()
    before = evaluation_key(told, {}, SPEC, "fp32")
    for name, each in catalogue().items():
        if each.base is bool and each.declared.flags:
            other = with_values(told, {name: not each.of(told)})
            changed = evaluation_key(other, {}, SPEC, "fp32") != before
            assert changed == each.decides, name


def test_a_setting_is_taken_to_change_files_unless_it_is_declared_otherwise() -> None:
    assert Group(title="of a new setting").decides and Declaration().decides is None
