# SPDX-License-Identifier: Apache-2.0
"""Recorded losses with their gradients, optimiser steps, schedules and scores of HMSA."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.optim import make_optimizer
from engine.schedule import make_schedule
from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy, mask_labels
from loss.objective import Objective
from loss.relaxed import RelaxedCrossEntropy, relaxed_target
from loss.rmi import RMILoss
from metrics.boundary import boundary_f, boundary_radius
from metrics.confusion import Scores, confusion_matrix
from network.build import build_net
from network.convert import load_official
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare

FIXTURES = Path(__file__).parent / "fixtures" / "hmsa"
EXACT = 1e-12
TERMS = ("aux", "main", "scale_05x", "scale_10x")  # in the order of the recorded calls


def draw_inputs(spec: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Logits (n, c, h, w) with gradient and labels (n, h, w), by the formula of the fixtures."""
    num, classes, height, width = (spec[key] for key in ("n", "c", "h", "w"))
    labels = np.stack(
        [
            recipe.label(height, width, classes, spec["seed"] + 1 + i, spec["ignore"])
            for i in range(num)
        ]
    )
    rng = np.random.Generator(np.random.PCG64(spec["seed"]))
    logits = spec["scale"] * rng.standard_normal((num, classes, height, width))
    for k in range(classes):
        logits[:, k] += spec["boost"] * (labels == k)
    if "label_override" in spec:
        labels[:] = spec["ignore"]
    return torch.from_numpy(logits.astype(np.float32)).requires_grad_(), torch.from_numpy(labels)


def check_loss(
    fixture: Fixture, make: Callable[[dict[str, Any]], nn.Module], stride: int | None = None
) -> list[Row]:
    """Value, gradient norm and strided gradient of every case."""
    rows = []
    tolerance = fixture.header["tolerance"]
    for case in fixture.header["cases"]:
        logits, labels = draw_inputs(case["input"])
        arguments = {k: v for k, v in case.get("args", {}).items() if k == "do_rmi"}
        loss = make(case)(logits, labels, **arguments)
        loss.backward()
        name, key = f"{fixture.name}/{case['label']}", case["grad"].split()[0]
        step = stride or case["grad_stride"]
        grad, want = logits.grad[..., ::step, ::step].numpy(), fixture.arrays[key]
        atol = case.get("grad_atol", 1e-4 * float(np.abs(want).max()))
        norm = logits.grad.double().norm().item()
        rows += [
            compare(f"{name} loss", loss.item(), case["loss"], **tolerance),
            compare(f"{name} grad", grad, want, atol, tolerance["rtol"]),
            compare(f"{name} grad norm", norm, case["grad_l2"], **tolerance),
        ]
    return rows


def check_cross_entropy(fixture: Fixture) -> list[Row]:
    return check_loss(fixture, lambda case: CrossEntropy(case["input"]["ignore"]))


def check_rmi(fixture: Fixture) -> list[Row]:
    return check_loss(fixture, lambda case: RMILoss(case["input"]["c"]))


def check_image_weighted(fixture: Fixture) -> list[Row]:
    def make(case: dict[str, Any]) -> ImageWeightedCrossEntropy:
        bound = float(case["label"].removeprefix("bound ")) if "bound" in case["label"] else 1.0
        return ImageWeightedCrossEntropy(case["input"]["ignore"], bound)

    rows = check_loss(fixture, make)
    for case in fixture.header["cases"]:
        num_classes, ignore = case["input"]["c"], case["input"]["ignore"]
        target = mask_labels(draw_inputs(case["input"])[1], num_classes, ignore)
        weights = make(case).class_weights(target, num_classes).numpy()
        name = f"{fixture.name}/{case['label']} weights"
        rows.append(compare(name, weights, np.array(case["weights"]), 1e-6, 0.0))
    return rows


def check_relaxed(fixture: Fixture) -> list[Row]:
    def make(case: dict[str, Any]) -> RelaxedCrossEntropy:
        strict = tuple(case["options"].get("strict", ()))
        return RelaxedCrossEntropy(
            case["input"]["ignore"], strict=strict, batch_border_weights=True
        )

    rows = check_loss(fixture, make, stride=2)
    for case in fixture.header["cases"]:
        spec, criterion = case["input"], make(case)
        labels = draw_inputs(spec)[1]
        target = relaxed_target(labels, spec["c"], spec["ignore"], criterion.strict)
        packed = np.packbits(target.numpy() > 0, axis=-1)
        weights = criterion.class_weights(target).numpy()
        name = f"{fixture.name}/{case['label']}"
        recorded = fixture.arrays[case["target"].split()[0]]
        rows += [
            compare(f"{name} target", packed, recorded, 0.0, 0.0),
            compare(f"{name} weights", weights, np.array(case["class_weights"]), 1e-6, 0.0),
        ]
    return rows


def check_total(fixture: Fixture) -> list[Row]:
    """The whole training loss of the two-scale network: terms and gradients of its weights."""
    header = fixture.header
    source = json.loads((FIXTURES / f"{header['arch']}.json").read_text())
    weights = recipe.fill(source["manifest"], header["gain"])
    net = build_net(header["arch"], num_classes=header["num_classes"])
    load_official(net, {key: torch.from_numpy(value) for key, value in weights.items()})
    named = _by_published_name(net, weights, header["cases"][0]["grad_norms"])
    spec = header["input"]
    size, seed = (spec["height"], spec["width"]), spec["seed"]
    batch, classes = range(spec["batch"]), header["num_classes"]
    images = torch.from_numpy(np.stack([recipe.image(*size, seed + i) for i in batch]))
    labels = torch.from_numpy(
        np.stack([recipe.label(*size, classes, seed + 50 + i) for i in batch])
    )
    outputs = _freeze_noise(net)(images)
    rows = []
    for case in header["cases"]:
        net.zero_grad()
        objective = Objective(
            RMILoss(header["num_classes"]),
            num_classes=header["num_classes"],
            ignore_label=255,
            ocr_alpha=case["ocr_alpha"],
            ocr_aux_rmi=case["ocr_aux_loss_rmi"],
            supervised_mscale_wt=case["supervised_mscale_loss_wt"],
        )
        loss = objective(outputs, labels)
        loss.total.backward(retain_graph=True)
        without = sum(p.grad is None for p in net.parameters())
        got = {"loss": loss.total.item(), "grad norm": _total_norm(net), "no grad": without}
        want = {"loss": case["loss"], "grad norm": case["grad_norm_total"]}
        want["no grad"] = len(case["params_without_grad"])
        for term, call in zip(TERMS, case["criterion_calls_in_order"], strict=False):
            got[term], want[term] = loss.terms[term].item(), call["value"]
        for key, norm in case["grad_norms"].items():
            got[key], want[key] = named[key].grad.double().norm().item(), norm
        rtol = header["tolerance"]["rtol"]
        name = f"{fixture.name}/{case['label']}"
        rows += [compare(f"{name} {key}", got[key], want[key], 0.0, rtol) for key in want]
    return rows


def _freeze_noise(net: nn.Module) -> nn.Module:
    """Training mode with running statistics and without dropout, as recorded."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
        elif isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return net


def _total_norm(net: nn.Module) -> float:
    squares = [p.grad.double().square().sum() for p in net.parameters() if p.grad is not None]
    return math.sqrt(float(torch.stack(squares).sum()))


def _by_published_name(
    net: nn.Module, weights: dict[str, np.ndarray], names: dict[str, float]
) -> dict[str, nn.Parameter]:
    """Our parameters under the published names, found by their values."""
    found = {}
    for name in names:
        value = torch.from_numpy(weights[name])
        same = [p for p in net.parameters() if p.shape == value.shape and torch.equal(p, value)]
        assert len(same) == 1, f"{name}: {len(same)} parameters carry its values"
        found[name] = same[0]
    return found


def check_training(fixture: Fixture) -> list[Row]:
    """Learning rates by epoch, and the weights after each of 12 optimiser steps."""
    rows = []
    for case in fixture.header["schedules"]:
        options = dict(case["args"])
        name = options.pop("lr_schedule")
        factor = make_schedule(name, rlx_off_epoch=case["rlx_off_epoch"], **options)
        want = np.array(list(case["lr"].values()))
        got = np.array([options["lr"] * factor(int(epoch)) for epoch in case["lr"]])
        rows.append(compare(f"{fixture.name}/{name} {options['max_epoch']}", got, want, EXACT, 0.0))
    for case in fixture.header["optimizers"]:
        name = case["optimizer"] + ("+amsgrad" if case.get("amsgrad") else "")
        want = np.array(case["weights_after_each_step"])
        rows.append(compare(f"{fixture.name}/{name}", optimizer_steps(case), want, 1e-6, 1e-6))
    return rows


def optimizer_steps(case: dict[str, Any]) -> np.ndarray:
    """Weights (12, 4) after each step on (w . x_i)^2."""
    weights = torch.tensor([0.5, -1.0, 2.0, 0.1], requires_grad=True)
    optimizer = make_optimizer(
        [weights],
        case["optimizer"],
        lr=case["lr"],
        weight_decay=case["weight_decay"],
        amsgrad=case.get("amsgrad", False),
    )
    seen = []
    for i in range(len(case["weights_after_each_step"])):
        optimizer.zero_grad()
        ((weights * torch.tensor([1.0, 2.0, -1.0, 0.5 + 0.1 * i])).sum() ** 2).backward()
        optimizer.step()
        seen.append(weights.detach().numpy().copy())
    return np.stack(seen)


def draw_confusion(case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Prediction and label (H, W) int64, by the formula of the fixture."""
    num_classes = case["num_classes"]
    ignore = 255 if num_classes == 19 else num_classes
    label = recipe.label(case["height"], case["width"], num_classes, case["seed"], ignore)
    rng = np.random.Generator(np.random.PCG64(case["seed"] + 1000))
    agree = rng.uniform(size=label.shape) < case["agree"]
    noise = rng.integers(0, num_classes, label.shape)
    pred = np.where(agree, np.minimum(label, num_classes - 1), noise)
    missing = case["never_predicted"]
    if missing is not None:
        pred[pred == missing] = (missing + 1) % num_classes
    return torch.from_numpy(pred), torch.from_numpy(label)


def check_metrics(fixture: Fixture) -> list[Row]:
    """Sums of the matrix, and every score; precision and recall in their true sense."""
    rows = []
    for case in fixture.header["cases"]:
        pred, label = draw_confusion(case)
        matrix = confusion_matrix(pred, label, case["num_classes"]).numpy()
        scores = Scores.of(matrix, [str(k) for k in range(case["num_classes"])])
        metrics, official = case["metrics"], case["metrics"]["official_columns"]
        share = 100 * matrix.diagonal() / matrix.sum()
        pairs = {
            "rows": (matrix.sum(1), case["hist_row_sums"]),
            "columns": (matrix.sum(0), case["hist_col_sums"]),
            "diagonal": (matrix.diagonal(), case["hist_diag"]),
            "tp share": (share, official["TP_percent_of_all_pixels"]),
            "fn/tp": (scores.fn_over_tp, official["FP_over_TP (really missed ground truth, FN)"]),
            "fp/tp": (scores.fp_over_tp, official["FN_over_TP (really false positives)"]),
            "precision": (scores.precision, metrics["correct"]["precision"]),
            "recall": (scores.recall, metrics["correct"]["recall"]),
        }
        for key in ("iou", "mean_iu", "acc", "acc_cls", "fwavacc"):
            pairs[key] = (getattr(scores, key), metrics[key])
        for key, (got, want) in pairs.items():
            name = f"{fixture.name}/seed {case['seed']} {key}"
            rows.append(compare(name, got, want, EXACT, EXACT))
    return rows


def check_boundary(fixture: Fixture) -> list[Row]:
    rows = []
    for case in fixture.header["cases"]:
        size, classes = (case["height"], case["width"]), case["classes"]
        label = recipe.label(*size, classes, case["seed"])
        pred = np.roll(recipe.label(*size, classes, case["seed"], ignore=0), (2, 3), (0, 1))
        maps = pred.astype(np.uint8), label.astype(np.uint8)
        f_score, precision, _ = boundary_f(*maps, classes, (case["bound_th"],))[0]
        got = np.stack((f_score, precision), axis=1)
        name = f"{fixture.name}/{size[0]}x{size[1]} th {case['bound_th']}"
        radius = boundary_radius(*size, case["bound_th"])
        rows += [
            compare(f"{name} radius", radius, case["dilation_radius"], 0.0, 0.0),
            compare(name, got, np.array(case["F_and_precision_per_class"]), EXACT, EXACT),
        ]
    return rows


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {
    "loss_ce": check_cross_entropy,
    "loss_rmi": check_rmi,
    "loss_imgwt": check_image_weighted,
    "loss_softnll": check_relaxed,
    "loss_total_mscale": check_total,
    "train_optim": check_training,
    "eval_metrics": check_metrics,
    "eval_f_boundary": check_boundary,
}
