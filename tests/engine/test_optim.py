# SPDX-License-Identifier: Apache-2.0
"""Optimisers by name, against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from assembly.optimiser import make_optimizer
from config import UserError
from engine.optim import (
    WeightAverage,
    freeze_auxiliary,
    freeze_others,
    has_auxiliary,
)
from loss.cross_entropy import CrossEntropy
from loss.objective import LossWeights, Objective
from network.build import build_net
from settings.kinds import OPTIMISERS
from tests.network.test_hrvit import tiny
from tests.network.tiny import NUM_CLASSES, picture

LR, DECAY = 0.01, 0.1


def gradient_at(step: int) -> torch.Tensor:
    return torch.tensor([0.3, -1.0, 2.0]) * (1 + 0.2 * step)


def run(name: str, steps: int, **options) -> torch.Tensor:
    weights = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = make_optimizer([weights], name, lr=LR, weight_decay=DECAY, **options)
    for step in range(steps):
        weights.grad = gradient_at(step)
        optimizer.step()
    return weights.detach()


def test_sgd_adds_decay_to_the_gradient_and_has_no_nesterov_step():
    weights, velocity = torch.tensor([1.0, -2.0, 0.5]), torch.zeros(3)
    for step in range(5):
        velocity = 0.8 * velocity + gradient_at(step) + DECAY * weights
        weights = weights - LR * velocity
    torch.testing.assert_close(run("sgd", 5, momentum=0.8), weights)


def test_radam_decays_apart_from_the_step_and_rectifies_from_the_sixth_step():
    weights, first, second = torch.tensor([1.0, -2.0, 0.5]), torch.zeros(3), torch.zeros(3)
    for step in range(9):
        t, grad = step + 1, gradient_at(step)
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        weights = weights * (1 - LR * DECAY)
        longest = 2 / (1 - 0.999) - 1
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        update = first / (1 - 0.9**t)
        if length >= 5:
            ratio = (length - 4) * (length - 2) * longest
            update = update * math.sqrt(ratio / ((longest - 4) * (longest - 2) * length))
            update = update / (second / (1 - 0.999**t)).sqrt()
        weights = weights - LR * update
    torch.testing.assert_close(run("radam", 9), weights)


def test_adamw_differs_from_adam_by_its_decay_alone():
    assert not torch.equal(run("adamw", 3), run("adam", 3))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_amsgrad_reaches_the_optimiser(name):
    options = {"lr": LR, "amsgrad": True}
    optimizer = make_optimizer([torch.zeros(1, requires_grad=True)], name, **options)
    assert optimizer.defaults["amsgrad"]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_parameter_groups_keep_their_own_rate(name):
    groups = [{"params": [torch.zeros(1)], "lr": 0.5}, {"params": [torch.zeros(1)]}]
    optimizer = make_optimizer(groups, name, lr=LR)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, LR]


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="--optimizer lion is unknown; there are sgd, adam"):
        make_optimizer([torch.zeros(1)], "lion", lr=LR)


def small_net() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2, bias=False)
    )


def test_only_named_weights_are_trained() -> None:
    net = small_net()
    freeze_others(net, ("2.", "1.w"))
    trained = [name for name, item in net.named_parameters() if item.requires_grad]
    assert trained == ["1.weight", "2.weight"]


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(UserError, match="--train_only topdow: no weight"):
        freeze_others(small_net(), ("topdow",))


def test_a_short_average_forgets_the_start_and_a_long_one_keeps_its_decay():
    net = torch.nn.BatchNorm1d(1)
    average = WeightAverage(net, 0.99)
    net.running_var.fill_(1000.0)
    average.update_parameters(net)  # the first update copies
    net.running_var.fill_(1.0)
    seen = []
    for _ in range(60):
        average.update_parameters(net)
        seen.append(average.module.running_var.item())
    assert seen[0] == pytest.approx(1 + 999 * 2 / 11)
    assert seen[-1] < 1.01  # with a constant decay it would be 547
    average.n_averaged.fill_(10_000)
    net.running_var.fill_(2.0)
    average.update_parameters(net)
    assert average.module.running_var.item() == pytest.approx(seen[-1] * 0.99 + 0.02)


def test_without_auxiliary_loss_everything_that_trains_has_a_gradient():
    net = tiny("hrvit.b1_UPerNet").train()
    names = list(net.state_dict())
    freeze_auxiliary(net)
    objective = Objective(
        CrossEntropy(255),
        num_classes=NUM_CLASSES,
        ignore_label=255,
        weights=LossWeights(ocr_alpha=0.0),
    )
    labels = torch.zeros(2, 40, 52, dtype=torch.int64)
    objective(net(picture(40, 52, batch=2)), labels).total.backward()
    silent = [name for name, item in net.named_parameters() if item.grad is None]
    assert silent and all(name.startswith("auxiliary_head.") for name in silent)
    assert not any(net.get_parameter(name).requires_grad for name in silent)
    assert list(net.state_dict()) == names  # files fit as before


def test_the_auxiliary_heads_of_other_families_are_known_by_their_names():
    with torch.device("meta"):
        nets = [
            build_net(arch, NUM_CLASSES, **options)
            for arch, options in (
                ("swin.T_UPerNet", {"stage_depths": (1, 1, 1, 1)}),
                ("hanet.DeepR50V3PlusD_HANet", {"aux_loss": True}),
            )
        ]
    for net in nets:
        freeze_auxiliary(net)
        frozen = {
            name.split(".")[0] for name, item in net.named_parameters() if not item.requires_grad
        }
        assert len(frozen) == 1 and frozen < {"auxiliary_head", "dsn"}


def test_which_networks_have_an_auxiliary_loss():
    arches = {
        "ocrnet.HRNet18_Mscale": True,
        "swin.T_UPerNet": True,
        "segformer.B0": False,
        "hanet.DeepR50V3PlusD_HANet": False,  # without --aux_loss
        "deepv3.DeepV3PlusR50": False,
    }
    with torch.device("meta"):
        for arch, expected in arches.items():
            assert has_auxiliary(build_net(arch, NUM_CLASSES)) == expected, arch
