# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix is exact for every type and class count; scores stand on their feet."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from metrics import confusion
from metrics.confusion import ConfusionMatrix, Scores, confusion_matrix

CASE = torch.tensor([[5, 1, 0], [2, 3, 0], [0, 0, 0]])  # class 2 occurs nowhere


def maps(
    num_classes: int, shape: tuple[int, ...], seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    pred = torch.randint(num_classes, shape, generator=rng, dtype=torch.int64)
    label = torch.randint(256, shape, generator=rng, dtype=torch.int64)
    known = torch.rand(shape, generator=rng) < 0.7
    return pred, torch.where(known, label % num_classes, label)


def slow_matrix(pred: torch.Tensor, label: torch.Tensor, num_classes: int) -> torch.Tensor:
    valid = label < num_classes
    pairs = torch.stack((label[valid], pred[valid]))
    values = torch.ones(pairs.shape[1], dtype=torch.int64)
    size = (num_classes, num_classes)
    return torch.sparse_coo_tensor(pairs, values, size, check_invariants=False).to_dense()


@pytest.mark.parametrize("num_classes", [1, 2, 19, 65, 150, 254, 255, 300])
@pytest.mark.parametrize("shape", [(64, 48), (3, 17, 13), (1, 3)])
def test_counts_are_exact_for_any_number_of_classes(num_classes, shape):
    pred, label = maps(num_classes, shape)
    want = slow_matrix(pred, label, num_classes)
    got = confusion_matrix(pred, label, num_classes)
    assert got.dtype == torch.int64
    assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_type_does_not_matter(dtype):
    pred, label = maps(19, (40, 30))
    label = label.clamp_max(127 if dtype == torch.int16 else 255)
    want = confusion_matrix(pred, label, 19)
    assert torch.equal(confusion_matrix(pred.to(torch.uint8), label.to(dtype), 19), want)
    assert torch.equal(confusion_matrix(pred.to(dtype), label.to(torch.uint8), 19), want)


def test_labels_outside_a_byte_are_ignored_and_do_not_wrap_around():
    pred = torch.zeros(1, 4, dtype=torch.int64)
    label = torch.tensor([[-1, 256, 10_000, 0]])
    assert confusion_matrix(pred, label, 19).sum() == 1
    assert confusion_matrix(pred, label, 300).sum() == 2


def test_maps_need_not_be_contiguous():
    pred, label = maps(19, (40, 30))
    assert torch.equal(confusion_matrix(pred.T, label.T, 19), confusion_matrix(pred, label, 19))


def test_counts_beyond_float32_are_exact(monkeypatch):
    monkeypatch.setattr(confusion, "HIST_PIXELS", 1000)
    pred, label = maps(19, (101, 67))
    assert torch.equal(confusion_matrix(pred, label, 19), slow_matrix(pred, label, 19))
    assert np.float32(2**24) + np.float32(1) == 2**24  # why there is a limit at all
    monkeypatch.undo()
    assert confusion.HIST_PIXELS <= 2**24


def test_empty_maps_count_nothing():
    empty = torch.zeros((0, 5), dtype=torch.int64)
    assert not confusion_matrix(empty, empty, 19).any()


@pytest.mark.parametrize("num_classes", [19, 300])
def test_prediction_outside_the_classes_is_an_error(num_classes):
    pred = torch.tensor([[num_classes if num_classes == 300 else 19]])
    with pytest.raises(ValueError, match=f"outside 0..{num_classes - 1}"):
        confusion_matrix(pred, torch.zeros_like(pred), num_classes)


def test_different_shapes_are_an_error():
    with pytest.raises(ValueError, match="differ"):
        confusion_matrix(torch.zeros(2, 3), torch.zeros(3, 2), 19)


def test_images_and_ranks_add_up():
    pred, label = maps(19, (4, 20, 30))
    whole, left, right = (ConfusionMatrix(19) for _ in range(3))
    whole.update(pred, label)
    own = left.update(pred[:3], label[:3])
    assert torch.equal(own, left.matrix)
    right.update(pred[3:], label[3:])
    left.add(right.matrix)
    assert torch.equal(left.matrix, whole.matrix)


@pytest.mark.gpu
def test_cuda_counts_as_the_cpu_does():
    pred, label = maps(19, (64, 48))
    on_gpu = ConfusionMatrix(19, "cuda")
    on_gpu.update(pred.cuda(), label.cuda())
    assert torch.equal(on_gpu.matrix.cpu(), confusion_matrix(pred, label, 19))


def test_false_positives_and_precision_stand_the_right_way_round():
    scores = Scores.of(CASE, ["road", "car", "pole"])
    # class 0: 5 right, 1 road called car (missed), 2 cars called road (false alarms)
    assert scores.fp_over_tp[0] == 2 / 5
    assert scores.fn_over_tp[0] == 1 / 5
    assert scores.precision[0] == 5 / 7
    assert scores.recall[0] == 5 / 6
    assert scores.iou[0] == 5 / 8


def test_means_leave_absent_classes_out():
    scores = Scores.of(CASE, ["road", "car", "pole"])
    assert scores.absent.tolist() == [False, False, True]
    assert math.isnan(scores.iou[2])
    assert scores.mean_iu == pytest.approx((5 / 8 + 3 / 6) / 2)
    assert scores.acc == 8 / 11
    assert scores.acc_cls == pytest.approx((5 / 6 + 3 / 5) / 2)
    assert scores.fwavacc == pytest.approx(6 / 11 * 5 / 8 + 5 / 11 * 3 / 6)


def test_class_that_is_only_predicted_counts_as_zero_not_as_absent():
    scores = Scores.of(torch.tensor([[3, 1], [0, 0]]), ["a", "b"])
    assert scores.iou.tolist() == [0.75, 0.0]
    assert not scores.absent.any()
    assert math.isnan(scores.recall[1])


def test_table_has_a_line_a_class_and_says_absent():
    lines = Scores.of(CASE, ["road", "car", "pole"]).table().splitlines()
    head = ["Id", "label", "iU_1.0", "TP", "FP", "FN", "Precision", "Recall", "Dice"]
    assert lines[0].split() == head
    values = ["62.50", "45.45", "0.40", "0.20", "0.71", "0.83", "76.92"]
    assert lines[1].split() == ["0", "road", *values]
    assert lines[3].split() == ["2", "pole", "absent", *"------"]
    assert len({len(line) for line in lines}) == 1


def test_nothing_labelled_gives_undefined_scores_without_a_warning():
    scores = Scores.of(torch.zeros(2, 2, dtype=torch.int64), ["a", "b"])
    assert math.isnan(scores.mean_iu) and math.isnan(scores.acc)
    assert scores.table().count("absent") == 2


def test_dictionary_is_plain_json_with_null_for_undefined():
    content = json.loads(json.dumps(Scores.of(CASE, ["a", "b", "c"]).to_dict(), allow_nan=False))
    assert content["iou"] == [0.625, 0.5, None]
    assert content["absent"] == ["c"]
    assert content["confusion"] == CASE.tolist()


def test_names_and_matrix_must_agree():
    with pytest.raises(ValueError, match="2 class names for a matrix"):
        Scores.of(CASE, ["a", "b"])


def test_dice_counts_hits_twice_and_leaves_out_what_is_absent() -> None:
    scores = Scores.of(CASE, ("a", "b", "c"))
    np.testing.assert_allclose(scores.dice, [10 / 13, 6 / 9, math.nan])
    assert scores.mean_dice == pytest.approx((10 / 13 + 6 / 9) / 2)


def test_reported_scores_are_percentages_of_two_decimals() -> None:
    scores = Scores.of(CASE, ("a", "b", "c"))
    want = {"mIoU": 0.5625, "mAcc": 0.7167, "aAcc": 0.7273, "mDice": 0.7179}
    assert scores.reported() == pytest.approx(want, abs=1e-12)
    assert scores.summary() == "Summary: mIoU 56.25  mAcc 71.67  aAcc 72.73  mDice 71.79"


@pytest.mark.parametrize("num_classes", [3, 300])
def test_with_an_ignore_label_other_values_are_refused(num_classes: int) -> None:
    pred = torch.zeros(2, 3, dtype=torch.int64)
    label = torch.tensor([[0, 1, 400], [400, 0, 2]])
    assert confusion_matrix(pred, label, num_classes, ignore_label=400).sum() == 4
    for value in (num_classes, 355, -1):
        label[0, 0] = value
        with pytest.raises(ValueError, match=f"the value {value} \\(1 pixel"):
            confusion_matrix(pred, label, num_classes, ignore_label=400)
        assert confusion_matrix(pred, label, num_classes).sum() == 3
