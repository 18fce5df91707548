# SPDX-License-Identifier: Apache-2.0
"""Recorded learning rates, parameter groups and losses of mmsegmentation."""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F

from assembly.rates import build_schedule
from engine.param_groups import ParamRule, make_groups, rule_of
from loss.cross_entropy import CrossEntropy
from loss.objective import pixel_accuracy
from network.build import build_net
from settings import Settings
from settings.catalogue import with_values
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record, first_case

HEADS = {"segformer": "SegFormer", "upernet": "UPerNet"}
CLASSES = {"ade20k": 150, "cityscapes": 19}


def network_of(config: str) -> tuple[str, int]:
    """Architecture and classes of a published configuration, as in segformer_hrvit_b1_ade20k."""
    found = re.fullmatch(r"(segformer|upernet)_hrvit_(b\d)_(ade20k|cityscapes)\w*", config)
    if found is None:
        raise CannotRun(f"config: {config} is no known configuration")
    return f"hrvit.{found[2]}_{HEADS[found[1]]}", CLASSES[found[3]]


def schedule_settings(case: Record) -> Settings:
    """The settings of a recorded schedule."""
    if case.get("by_epoch", False):
        raise CannotRun("schedules: by_epoch=true, rates by epoch are another kind of recording")
    if case.get("warmup", "linear") not in ("linear", None):
        raise CannotRun(f"schedules: warmup={case['warmup']}, linear is the known one")
    values = {
        "lr_by": "iter",
        "lr_schedule": case.get("policy", "poly"),
        "max_iter": case["max_iters"],
        "poly_exp": case.get("power", 1.0),
        "min_lr": case.get("min_lr", 0.0),
        "warmup_iters": case.get("warmup_iters", 0),
        "warmup_ratio": case.get("warmup_ratio", 1e-6),
        "lr_step": case.get("step"),
        "lr_gamma": case.get("gamma", 0.1),
    }
    return with_values(Settings(), values)


def check_poly_lr(fixture: Fixture) -> list[Row]:
    rows = []
    for case in fixture.header["schedules"]:
        rate = build_schedule(schedule_settings(case), steps_per_epoch=100)
        recorded = case["values_iter_then_lr_per_group"]
        got = [[rate(row[0], 0, base) for base in case["base_lrs"]] for row in recorded]
        want = [row[1:] for row in recorded]
        name = f"{fixture.name}/{case['name']}"
        rows.append(compare(name, got, want, **fixture.header["tolerance"].plain()))
    return rows


def check_paramwise(fixture: Fixture) -> list[Row]:
    rows = []
    for case in fixture.header["cases"]:
        name = f"{fixture.name}/{case['config']}"
        with torch.device("meta"):  # names and shapes are enough
            arch, classes = network_of(case["config"])
            net = build_net(arch, num_classes=classes)
        optimizer = case["optimizer"]
        keys = optimizer["paramwise_cfg"]["custom_keys"].plain()
        rules = [
            ParamRule(key=key, lr=value.get("lr_mult", 1.0), decay=value.get("decay_mult", 1.0))
            for key, value in keys.items()
        ]
        lr, decay = optimizer["lr"], optimizer["weight_decay"]
        groups = make_groups(net.named_parameters(), rules, lr=lr, weight_decay=decay)
        got = sorted(
            [
                group["lr"],
                group["weight_decay"],
                len(group["params"]),
                sum(item.numel() for item in group["params"]),
            ]
            for group in groups
        )
        want = sorted(
            [group["lr"], group["weight_decay"], group["tensors"], group["elements"]]
            for group in case["groups"]
        )
        rows.append(compare(f"{name} groups", got, want, rtol=1e-12))
        names = {key for key, _ in net.named_parameters()}
        for group in case["groups"]:
            for example in group["examples"]:
                rule = rule_of(example, rules)
                own = [example in names, lr * rule.lr, decay * rule.decay]
                recorded = [True, group["lr"], group["weight_decay"]]
                rows.append(compare(f"{name} {example}", own, recorded, rtol=1e-12))
    return rows


def check_loss(fixture: Fixture) -> list[Row]:
    rows = []
    for case in fixture.header["cases"]:
        name, tolerance = f"{fixture.name}/{case['index']}", fixture.header["tolerance"].plain()
        drawn = recipe.tensor(case["logits_key"], case["logits_shape"], "float32", gain=3.0)
        logits = torch.from_numpy(drawn * np.float32(case["logits_scale"]))
        size, classes = (case["height"], case["width"]), case["num_classes"]
        labels = torch.from_numpy(
            np.stack([recipe.label(*size, classes, seed) for seed in case["label_seeds"]])
        )
        resized = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        weight = case["loss_weight"]
        of = {
            average: weight
            * CrossEntropy(255, average=average, class_weights=case["class_weight"])(
                resized, labels
            )
            for average in ("all", "valid")
        }
        got = {
            "loss": of["all"],
            "loss_over_valid_only": of["valid"],
            "acc_seg": pixel_accuracy(resized, labels),
            "ignored_fraction": (labels == 255).float().mean(),
            "logits_std": logits.std(),
        }
        rows += [
            compare(f"{name} {key}", value, case[key], **tolerance) for key, value in got.items()
        ]
    return rows


CHECKS = (
    Check(
        "mmseg learning rates",
        lambda fixture: "values_iter_then_lr_per_group" in first_case(fixture, "schedules"),
        check_poly_lr,
        {"schedules.*.name": "what the case is called"},
    ),
    Check(
        "mmseg parameter groups",
        lambda fixture: "groups" in first_case(fixture),
        check_paramwise,
        {
            "cases.*.optimizer.type": "the groups are those of any optimiser",
            "cases.*.optimizer.betas": "of no effect on the groups",
        },
    ),
    Check(
        "mmseg loss",
        lambda fixture: "logits_key" in first_case(fixture),
        check_loss,
        {"cases.*.index": "numbers the cases"},
    ),
)
