# SPDX-License-Identifier: Apache-2.0
"""Recorded losses of HMSA with their gradients, each for drawn logits and labels."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from loss.cross_entropy import CrossEntropy, ImageWeightedCrossEntropy, mask_labels
from loss.relaxed import RelaxedCrossEntropy, relaxed_target
from loss.rmi import RMILoss
from tests.parity import recipe
from tests.parity.core import Check, Row, compare
from tests.parity.fixture import CannotRun, Fixture, Record, first_case

BOUND_NAMES = ("bound", "upper_bound", "wt_bound")
BOUND_DIGITS = 4  # to which an unnamed bound is read off the recorded weights
SUM_NOISE = 1e-6  # of the sum of magnitudes that a sum of float32 gradients may be off
WEIGHT_ATOL = 1e-6
Make = Callable[[Record], nn.Module]


def draw_inputs(spec: Record) -> tuple[Tensor, Tensor]:
    """Logits (n, c, h, w) with gradient and labels (n, h, w), by the formula of the fixtures."""
    num, classes, height, width = (spec[key] for key in ("n", "c", "h", "w"))
    seed, ignore = spec["seed"], spec["ignore"]
    labels = np.stack(
        [recipe.label(height, width, classes, seed + 1 + i, ignore) for i in range(num)]
    )
    rng = np.random.Generator(np.random.PCG64(seed))
    logits = spec["scale"] * rng.standard_normal((num, classes, height, width))
    for k in range(classes):
        logits[:, k] += spec["boost"] * (labels == k)
    if "label_override" in spec:
        value = re.match(r"every pixel (\d+)", str(spec["label_override"]))
        if value is None:
            raise CannotRun(f"label_override: {spec['label_override']!r} is not understood")
        labels[:] = int(value[1])
    return torch.from_numpy(logits.astype(np.float32)).requires_grad_(), torch.from_numpy(labels)


def arguments_of(case: Record) -> dict[str, Any]:
    """Keyword arguments and options of a case, in one."""
    found: dict[str, Any] = {}
    for group in ("args", "options", "kwargs"):
        found.update(case[group].plain() if isinstance(case.get(group), Record) else {})
    return found


def refuse_unknown(arguments: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = sorted(arguments.keys() - set(known))
    if unknown:
        raise CannotRun(f"args: {', '.join(unknown)} is no known option of this loss")


def gradient_step(fixture: Fixture, case: Record) -> tuple[str, int]:
    """Name of the array of the gradient, and its spatial stride."""
    text = str(case["grad"])
    found = re.search(r"stride (\d+)", text)
    step = case.get("grad_stride", fixture.header.get("grad_stride"))
    return text.split()[0], step if isinstance(step, int) else int(found[1]) if found else 1


def loss_rows(fixture: Fixture, make: Make) -> list[Row]:
    """Value, norm, sum, largest magnitude and strided values of the gradient of every case."""
    rows = []
    tolerance = fixture.header["tolerance"].plain()
    for number, case in enumerate(fixture.cases):
        logits, labels = draw_inputs(case["input"])
        flags = {k: v for k, v in arguments_of(case).items() if k == "do_rmi"}
        loss = make(case)(logits, labels, **flags)
        loss.backward()
        assert logits.grad is not None
        key, step = gradient_step(fixture, case)
        whole, name = logits.grad.double().numpy(), f"{fixture.name}/{number}"
        want = fixture.arrays[key]
        atol = case.get("grad_atol", 1e-4 * float(np.abs(want).max(initial=0)))
        strided = whole[..., ::step, ::step].astype(np.float32)
        rows += [
            compare(f"{name} loss", loss.item(), case["loss"], **tolerance),
            compare(f"{name} grad", strided, want, atol, tolerance["rtol"]),
            compare(f"{name} grad norm", np.linalg.norm(whole), case["grad_l2"], **tolerance),
        ]
        noise = SUM_NOISE * float(np.abs(whole).sum())
        rtol = tolerance["rtol"]
        if "grad_sum" in case:
            rows.append(compare(f"{name} grad sum", whole.sum(), case["grad_sum"], noise, rtol))
        if "grad_max" in case:
            got = np.abs(whole).max()
            rows.append(compare(f"{name} grad max", got, case["grad_max"], atol, rtol))
        if case.get("loss_float64") is not None:
            rows.append(compare(f"{name} loss64", loss.item(), case["loss_float64"], **tolerance))
    return rows


def check_cross_entropy(fixture: Fixture) -> list[Row]:
    def make(case: Record) -> CrossEntropy:
        refuse_unknown(arguments_of(case), ("do_rmi",))
        return CrossEntropy(case["input"]["ignore"])

    return loss_rows(fixture, make)


def check_rmi(fixture: Fixture) -> list[Row]:
    def make(case: Record) -> RMILoss:
        arguments = arguments_of(case)
        refuse_unknown(arguments, ("do_rmi", "rmi_weight", "loss_weight_lambda"))
        weight = arguments.get("rmi_weight", arguments.get("loss_weight_lambda", 0.5))
        return RMILoss(case["input"]["c"], rmi_weight=weight)

    return loss_rows(fixture, make)


def bound_of(case: Record) -> float:
    """The bound of a case: its own entry, else read off the recorded weights, else 1."""
    arguments = arguments_of(case)
    named = next((arguments[key] for key in BOUND_NAMES if key in arguments), None)
    if named is not None or "weights" not in case:
        return 1.0 if named is None else float(named)
    classes, ignore = case["input"]["c"], case["input"]["ignore"]
    target = mask_labels(draw_inputs(case["input"])[1], classes, ignore)
    one = ImageWeightedCrossEntropy(ignore, 1.0).class_weights(target, classes).double().numpy()
    rises = (np.asarray(case["weights"], np.float64) - 1)[one > 1] / (one - 1)[one > 1]
    return round(float(np.median(rises)), BOUND_DIGITS) if rises.size else 1.0


def check_image_weighted(fixture: Fixture) -> list[Row]:
    known = ("do_rmi", "batch_weighting", "batch_weights", "norm", *BOUND_NAMES)

    def make(case: Record) -> ImageWeightedCrossEntropy:
        arguments, ignore = arguments_of(case), case["input"]["ignore"]
        refuse_unknown(arguments, known)
        if arguments.get("norm"):
            raise CannotRun("args: norm=true, weights by the inverse share, is not offered here")
        options = {"official_histogram": True} if ignore == case["input"]["c"] else {}
        return ImageWeightedCrossEntropy(ignore, bound_of(case), **options)

    rows = loss_rows(fixture, make)
    for number, case in enumerate(fixture.cases):
        if "weights" not in case:
            continue
        classes, ignore = case["input"]["c"], case["input"]["ignore"]
        labels = draw_inputs(case["input"])[1]
        target = labels if ignore == classes else mask_labels(labels, classes, ignore)
        weights = make(case).class_weights(target, classes).numpy()
        name = f"{fixture.name}/{number} weights"
        rows.append(compare(name, weights, np.array(case["weights"]), WEIGHT_ATOL))
    return rows


def make_relaxed(case: Record) -> RelaxedCrossEntropy:
    """The published form: marks of all images divide each image."""
    arguments = arguments_of(case)
    known = ("strict", "strict_classes", "norm", "do_rmi", "batch_weighting", *BOUND_NAMES)
    refuse_unknown(arguments, known)
    if arguments.get("norm"):
        raise CannotRun("options: norm=true, weights by the inverse share, is not offered here")
    bound = next((float(arguments[key]) for key in BOUND_NAMES if key in arguments), 1.0)
    strict = arguments.get("strict", arguments.get("strict_classes")) or ()
    return RelaxedCrossEntropy(
        case["input"]["ignore"],
        bound=bound,
        strict=tuple(strict),
        batch_weighting=bool(arguments.get("batch_weighting", False)),
        batch_border_weights=True,
    )


def check_relaxed(fixture: Fixture) -> list[Row]:
    rows = loss_rows(fixture, make_relaxed)
    for number, case in enumerate(fixture.cases):
        spec, criterion = case["input"], make_relaxed(case)
        labels, name = draw_inputs(spec)[1], f"{fixture.name}/{number}"
        target = relaxed_target(labels, spec["c"], spec["ignore"], criterion.strict)
        if "target" in case:
            packed = np.packbits(target.numpy() > 0, axis=-1)
            recorded = fixture.arrays[str(case["target"]).split()[0]]
            rows.append(compare(f"{name} target", packed, recorded))
        if "target_sum" in case:
            rows.append(compare(f"{name} target sum", int(target.sum()), case["target_sum"]))
        if "class_weights" in case:
            weights = criterion.class_weights(target).numpy()
            want = np.array(case["class_weights"])
            rows.append(compare(f"{name} weights", weights, want, WEIGHT_ATOL))
    return rows


def loss_kind(fixture: Fixture) -> str:
    """`relaxed`, `image weighted`, `rmi` or `cross entropy`; nothing for another fixture."""
    case = first_case(fixture)
    drawn = case.get("input")
    if "grad_l2" not in case or not isinstance(drawn, dict) or "boost" not in drawn:
        return ""
    cases = [each for each in fixture.header.peek()["cases"] if isinstance(each, dict)]
    if any("target" in each or "class_weights" in each for each in cases):
        return "relaxed"
    said = str(fixture.header.peek().get("what", ""))
    if any("weights" in each for each in cases) or "ImageBased" in said:
        return "image weighted"
    structured = any("do_rmi" in each.get("args", {}) for each in cases)
    return "rmi" if structured and "CrossEntropyLoss2d" not in said else "cross entropy"


REMARKS = {
    "name": "what the recording is called",
    "inputs": "says how the inputs are drawn",
    "grad_stride": "stands in the cases",
    "cases.*.label": "what the case is called",
    "cases.*.loss_float64": "null where there is no such loss",
    "cases.*.input.label_override": "says that no pixel is labelled",
    "cases.*.args.batch_weighting": "has no effect on the value",
    "cases.*.args.do_rmi": "without a structural term no effect",
    "cases.*.args": "empty",
    "cases.*.options": "empty",
}
CHECKS = tuple(
    Check(f"hmsa loss: {kind}", lambda fixture, kind=kind: loss_kind(fixture) == kind, run, REMARKS)
    for kind, run in {
        "relaxed": check_relaxed,
        "image weighted": check_image_weighted,
        "rmi": check_rmi,
        "cross entropy": check_cross_entropy,
    }.items()
)
