# SPDX-License-Identifier: Apache-2.0
"""The files that docs/extending.md adds do what the page says of them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.listing import MissingFiles
from metrics.confusion import confusion_matrix
from tests.reports.cases import SPEC, make_result

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python file=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def names_of(file: str) -> dict[str, Any]:
    """What the new file `file` of the page defines."""
    names: dict[str, Any] = {"__name__": file.removesuffix(".py").replace("/", ".")}
    exec(compile(FILES[file], file, "exec"), names)
    return names


def test_no_new_file_of_the_page_is_there_already() -> None:
    assert len(FILES) == 5
    assert [file for file in FILES if (ROOT / file).exists()] == []


def test_the_data_set_lists_its_pairs_and_misses_a_mask(tmp_path: Path) -> None:
    names = names_of("datasets/harbour.py")
    for kind in ("images", "masks"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    for number in range(2):
        grey = Image.fromarray(np.zeros((4, 4), np.uint8))
        grey.save(tmp_path / f"train/images/{number}.jpg")
        grey.save(tmp_path / f"train/masks/{number}.png")
    items = names["list_items"](tmp_path, "train")
    assert [(item.name, item.label.name) for item in items] == [("0", "0.png"), ("1", "1.png")]
    (tmp_path / "train/masks/1.png").unlink()
    with pytest.raises(MissingFiles, match=r"1\.png is missing"):
        names["list_items"](tmp_path, "train")


def test_the_loss_term_is_zero_where_certain_and_has_a_gradient() -> None:
    entropy = names_of("loss/entropy.py")["entropy"]
    labels = torch.tensor([[[0, 1, 255]]])
    even = torch.zeros(1, 4, 1, 3, requires_grad=True)
    assert entropy({"pred": even}, labels, 255).item() == pytest.approx(math.log(4))
    sure = 50 * torch.eye(4)[:3].T.reshape(1, 4, 1, 3)
    assert entropy({"pred": sure}, labels, 255).item() == pytest.approx(0, abs=1e-6)
    uneven = torch.randn(1, 4, 1, 3, requires_grad=True)
    entropy({"pred": uneven}, labels, 255).backward()
    assert uneven.grad is not None
    assert uneven.grad[..., :2].abs().min() > 0 and uneven.grad[..., 2].abs().max() == 0


def test_the_schedule_falls_once_per_cycle() -> None:
    factor = names_of("engine/triangle.py")["triangle"](8, cycles=2)
    assert [factor(position) for position in (0, 1, 3, 4, 6, 8, 9)] == [1, 0.75, 0.25, 1, 0.5, 0, 0]


def test_the_sink_writes_the_predicted_classes_of_each_image(tmp_path: Path) -> None:
    sink = names_of("reports/class_list.py")["ClassListSink"](tmp_path, SPEC)
    pred = np.zeros((4, 6), np.uint8)
    pred[2:] = 1
    sink.add(make_result("a/x", pred=pred))
    text = (tmp_path / "classes" / "a" / "x.txt").read_text(encoding="utf-8")
    assert text.splitlines() == list(SPEC.class_names[:2])


def test_the_metric_counts_images_in_which_a_class_is_found() -> None:
    names = names_of("metrics/presence.py")
    label = np.array([[0, 0, 1, 1]], np.uint8)
    matrices = [
        confusion_matrix(torch.tensor([pred]), torch.from_numpy(label), 3).numpy()
        for pred in ([0, 1, 1, 1], [0, 0, 0, 2])
    ]
    counts = sum(
        names["presence_counts"](make_result("x", label=label, confusion=matrix))
        for matrix in matrices
    )
    assert counts.tolist() == [[2, 2], [2, 1], [0, 0]]
    scores = names["presence_scores"](counts).tolist()
    assert scores[:2] == [1, 0.5] and math.isnan(scores[2])
