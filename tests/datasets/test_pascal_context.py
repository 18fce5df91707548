# SPDX-License-Identifier: Apache-2.0
"""PASCAL-Context on a miniature of its layout, with and without background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly.dataset import dataset_spec
from datasets import pascal_context
from datasets.base import DataError, read_label
from settings import read_settings
from tools import check

SETTING = "DATASET.PASCAL_CONTEXT_DIR"


def test_background_is_the_first_of_60_classes_or_void_of_59() -> None:
    whole, papers = pascal_context.SPEC, pascal_context.SPEC_59
    assert (whole.num_classes, papers.num_classes) == (60, 59)
    assert whole.class_names[:2] == ("background", "aeroplane")
    assert papers.class_names == whole.class_names[1:]
    assert papers.palette == whole.palette[1:]
    assert papers.train_id_to_id == tuple(range(1, 60))
    assert len(set(whole.palette)) == 59  # two classes share a colour


def test_labels_are_used_as_they_are_or_shifted(pascal_context_root: Path) -> None:
    for item in pascal_context.list_items(pascal_context_root, "train"):
        ids = np.asarray(Image.open(item.label)).astype(int)
        assert np.array_equal(read_label(item.label, pascal_context.SPEC), ids)
        moved = read_label(item.label, pascal_context.SPEC_59)
        assert np.array_equal(moved, np.where(ids, ids - 1, 255))


def test_only_255_is_ignored_with_60_classes() -> None:
    lut = pascal_context.SPEC.lut()
    assert np.array_equal(lut[:60], np.arange(60)) and lut[255] == 255
    assert (lut[60:255] == -1).all()


def test_splits_have_their_images_by_name(pascal_context_root: Path) -> None:
    items = pascal_context.list_items(pascal_context_root, "val")
    assert [item.name for item in items] == ["2008_000030", "2008_000031"]
    around = pascal_context.list_items(pascal_context_root.parent, "train")
    assert len(around) == 4
    with pytest.raises(DataError, match="no split test; it has train and val"):
        pascal_context.list_items(pascal_context_root, "test")


@pytest.mark.parametrize(("name", "classes"), [("pascal_context", 60), ("pascal_context_59", 59)])
def test_check_reads_both_protocols(
    pascal_context_root: Path, capsys: pytest.CaptureFixture[str], name: str, classes: int
) -> None:
    argv = ["--dataset", name, "--set", f"{SETTING}={pascal_context_root}"]
    assert check.main(argv) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:3].strip()]
    assert str(classes - 1) in rows and str(classes) not in rows


def test_the_name_chooses_the_protocol() -> None:
    for name, spec in (("pascal_context", "SPEC"), ("pascal_context_59", "SPEC_59")):
        assert dataset_spec(read_settings(["--dataset", name])) is getattr(pascal_context, spec)
