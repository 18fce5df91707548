# SPDX-License-Identifier: Apache-2.0
"""RMI loss: the direct formula, its gradient, and inputs that used to end a run."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.rmi import direct_rmi_loss
from loss.rmi import RMILoss, half_log_det, jittered_cholesky
from tests.loss.cases import IGNORE, gradient, logits_and_labels


@pytest.mark.parametrize(
    "shape",
    [
        (2, 5, 32, 48),
        (1, 19, 33, 41),  # one row and column in a last cell of their own
        (1, 3, 62, 63),  # size % 4 == 3: the last column lies in no cell
        (1, 65, 24, 24),
        (2, 2, 8, 8),  # a single window
        (1, 130, 16, 16),  # more classes than one product takes
    ],
)
def test_value_and_gradient_are_those_of_the_direct_formula_in_float64(shape):
    logits, labels = logits_and_labels(shape)
    want = direct_rmi_loss(logits.double(), labels)
    want_grad = gradient(want, logits)
    got = RMILoss(shape[1])(logits, labels)
    got_grad = gradient(got, logits)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    assert (got_grad - want_grad).abs().max() <= 1e-6 * want_grad.abs().max()


def test_gradient_passes_gradcheck():
    logits, labels = logits_and_labels((1, 2, 9, 10))
    criterion = RMILoss(2)
    assert torch.autograd.gradcheck(
        lambda z: criterion(z, labels), logits.detach().double().requires_grad_()
    )


def test_parts_weigh_half_each_and_bce_stands_alone_without_rmi():
    logits, labels = logits_and_labels((1, 4, 24, 24))
    criterion = RMILoss(4)
    total, parts = criterion.split(logits, labels)
    assert total.item() == pytest.approx(0.5 * (parts["bce"] + parts["rmi"]).item(), rel=1e-6)
    alone, only = criterion.split(logits, labels, do_rmi=False)
    assert set(only) == {"bce"}
    assert alone.item() == pytest.approx(parts["bce"].item(), rel=1e-6)
    assert not parts["rmi"].requires_grad


@pytest.mark.parametrize("num_classes", [2, 19, 65])
def test_image_without_valid_pixel_gives_the_constant_and_no_gradient(num_classes):
    logits, labels = logits_and_labels((1, num_classes, 24, 24))
    loss = RMILoss(num_classes)(logits, torch.full_like(labels, IGNORE))
    assert loss.item() == pytest.approx(0.25 * num_classes * math.log(5e-4), rel=1e-5)
    assert not gradient(loss, logits).any()


def test_every_label_from_the_class_count_up_is_ignored_and_any_int_type_is_taken():
    logits, labels = logits_and_labels((1, 5, 24, 24))
    want = RMILoss(5)(logits, labels)
    for ignore, dtype in ((5, torch.uint8), (7, torch.int32), (-1, torch.int64)):
        other = labels.masked_fill(labels == IGNORE, ignore).to(dtype)
        assert RMILoss(5)(logits, other).item() == want.item()


def test_labels_need_not_be_contiguous():
    logits, labels = logits_and_labels((2, 4, 24, 32))
    strided = labels.transpose(1, 2).contiguous().transpose(1, 2)
    assert not strided.is_contiguous()
    assert RMILoss(4)(logits, strided).item() == RMILoss(4)(logits, labels).item()


def test_logits_in_channels_last_give_the_same():
    logits, labels = logits_and_labels((2, 4, 24, 32))
    last = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    want, got = RMILoss(4)(logits, labels), RMILoss(4)(last, labels)
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    torch.testing.assert_close(gradient(got, last), gradient(want, logits), rtol=1e-4, atol=1e-7)


def test_half_precision_under_autocast_is_computed_in_float32():
    logits, labels = logits_and_labels((1, 4, 24, 24))
    half = logits.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        got = RMILoss(4)(half, labels)
    want = RMILoss(4)(half.detach().float(), labels)
    assert got.dtype == torch.float32
    assert got.item() == want.item()
    assert gradient(got, half).dtype == torch.bfloat16


@pytest.mark.parametrize("size", [30.0, 200.0])
def test_confident_logits_stay_finite(size):
    _, labels = logits_and_labels((1, 4, 24, 24), ignored=0.0)
    own = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    for sign in (1, -1):  # all right, and all wrong
        logits = (sign * size * (2 * own - 1)).requires_grad_()
        total, parts = RMILoss(4).split(logits, labels)
        assert math.isfinite(total.item())
        assert gradient(total, logits).isfinite().all()
        assert parts["bce"].item() == pytest.approx(
            0 if sign == 1 else 4 * size, rel=0.01, abs=1e-6
        )


def test_non_finite_logits_give_a_non_finite_loss_and_no_crash():
    logits, labels = logits_and_labels((1, 4, 24, 24))
    broken = logits.detach().clone()
    broken[0, 1, 5, 5] = torch.nan
    assert not RMILoss(4)(broken, labels).isfinite()


def test_failed_cholesky_gets_a_growing_diagonal_and_is_counted():
    good = torch.eye(9, dtype=torch.float64)
    bad = good.clone()
    bad[0, 0] = -3.0
    factor, num_failed = jittered_cholesky(torch.stack((good, bad)))
    assert num_failed == 1
    assert factor.isfinite().all()
    torch.testing.assert_close(factor[0], good)


def test_rmi_counts_the_repairs_of_a_run(monkeypatch):
    logits, labels = logits_and_labels((1, 3, 24, 24))
    criterion = RMILoss(3)
    criterion(logits, labels)
    assert criterion.num_jittered == 0

    def indefinite(label_label, label_prob, prob_prob):
        return half_log_det(label_label - 100 * torch.eye(9), label_prob, prob_prob)

    monkeypatch.setattr("loss.rmi.half_log_det", indefinite)
    loss = criterion(logits, labels)
    assert loss.isfinite()
    assert gradient(loss, logits).isfinite().all()
    assert criterion.num_jittered == len(labels[labels != IGNORE].unique())


def test_wrong_shapes_are_refused_in_a_sentence():
    logits, labels = logits_and_labels((1, 4, 24, 24))
    with pytest.raises(ValueError, match="do not fit"):
        RMILoss(5)(logits, labels)
    with pytest.raises(ValueError, match="do not fit"):
        RMILoss(4)(logits, labels[:, 1:])
    with pytest.raises(ValueError, match="at least 8x8"):
        RMILoss(4)(logits[:, :, :7], labels[:, :7])
    assert RMILoss(4)(logits[:, :, :7], labels[:, :7], do_rmi=False).isfinite()


def test_without_gradient_nothing_is_recorded():
    logits, labels = logits_and_labels((1, 4, 24, 24))
    with torch.no_grad():
        quiet = RMILoss(4)(logits, labels)
    assert not quiet.requires_grad
    assert quiet.item() == RMILoss(4)(logits, labels).item()


@pytest.mark.gpu
def test_cuda_gives_the_values_of_the_cpu():
    logits, labels = logits_and_labels((2, 19, 64, 96))
    want = RMILoss(19)(logits, labels)
    on_gpu = logits.detach().cuda().requires_grad_()
    got = RMILoss(19)(on_gpu, labels.cuda())
    assert got.item() == pytest.approx(want.item(), rel=1e-6)
    torch.testing.assert_close(
        gradient(got, on_gpu).cpu(), gradient(want, logits), rtol=1e-4, atol=1e-9
    )
