# SPDX-License-Identifier: Apache-2.0
"""The recorded evaluation of one image: flip, scales, confidence, loss, confusion, scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.batch import Batch
from datasets.cityscapes import SPEC
from engine.compute import Compute
from engine.evaluate import EvalRules, evaluate
from engine.predict import Infer, flip, multi_scale, whole
from metrics.result import EvalSummary, Gather, ImageResult, Sink
from tests.parity import recipe
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import CannotRun, Fixture, Record, first_case
from tests.parity.hmsa_scores import score_rows

CLASSES = 19
EXTRA_SCALES = (0.5, 2.0)  # besides default_scale
SCALE_FLAGS = ("multi_scale_inference", "default_scale", "extra_scales")
ALWAYS = ("err_mask", "predictions", "prob_mask")  # made from the prediction by the sinks here


class Stub(nn.Module):
    """The network of the fixture: a pixel-wise map, a blurred channel, a ramp along the row.

    `extras` are returned besides the prediction when everything is asked for.
    """

    def __init__(self, extras: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        weight = 2 * recipe.tensor("stub.weight", (19, 3))
        self.weight = nn.Parameter(torch.from_numpy(weight))
        self.extras = extras or {}
        self.eval()

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        classes = torch.arange(19)
        blurred = 0.3 * F.avg_pool2d(images, 5, stride=1, padding=2)[:, classes % 3]
        ramp = torch.linspace(0, 1, images.shape[-1])
        logits = torch.einsum("kc,bchw->bkhw", self.weight, images) + blurred
        logits = logits + 0.1 * classes[None, :, None, None] * ramp
        return {"pred": logits, **(self.extras if return_all else {})}


class Keep:
    """A sink that keeps every result."""

    needs = frozenset({"image", "prob", "assets"})

    def __init__(self) -> None:
        self.results: list[ImageResult] = []

    def wants(self, index: int) -> bool:
        return True

    def done(self, name: str) -> bool:
        return False

    def add(self, result: ImageResult) -> None:
        self.results.append(result)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        gather(len(self.results))


def evaluate_one(
    infer: Infer, image: Tensor, label: np.ndarray, sinks: list[Sink], name: str = "n0"
) -> EvalSummary:
    """Evaluate an image (3, H, W) with a label (H, W) as the only one of its set."""
    batch = Batch(
        images=image[None], labels=torch.from_numpy(label)[None], names=[name], indices=[0]
    )

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores, labels, ignore_index=SPEC.ignore_label)

    compute = Compute(device=torch.device("cpu"))
    return evaluate(infer, [batch], SPEC, compute, sinks=sinks, rules=EvalRules(val_loss=loss))


def make_infer(arguments: Mapping[str, Any]) -> Infer:
    """The procedure of a case from the flags it was recorded with."""
    unknown = sorted(arguments.keys() - {"do_flip", *SCALE_FLAGS})
    if unknown:
        raise CannotRun(f"args: {', '.join(unknown)} is no known flag of an evaluation")
    infer = whole(Stub(), return_all=True)
    default = arguments.get("default_scale", 1.0)
    if arguments.get("multi_scale_inference"):
        extra = arguments.get("extra_scales", EXTRA_SCALES)
        more = [float(s) for s in extra.split(",")] if isinstance(extra, str) else extra
        infer = multi_scale(infer, (default, *(s for s in more if s != default)))
    elif default != 1.0:
        infer = multi_scale(infer, (default,))
    return flip(infer) if arguments.get("do_flip") else infer


def array_of(fixture: Fixture, case: Record, kind: str) -> tuple[np.ndarray, int]:
    """The array of a case whose name begins with `kind`, and its stride."""
    named = [text for text in case["arrays"] if text.split()[0].rstrip("0123456789") == kind]
    if len(named) != 1:
        raise CannotRun(f"arrays: one named {kind}N is wanted, there are {len(named)}")
    found = re.search(r"stride (\d+)", named[0])
    return fixture.arrays[named[0].split()[0]], int(found[1]) if found else 1


def case_rows(fixture: Fixture, case: Record, name: str) -> list[Row]:
    """Prediction, confidence, errors, confusion, loss and scores of one evaluation."""
    size, seed = (case["height"], case["width"]), case["seed"]
    image, label = recipe.image(*size, seed), recipe.label(*size, CLASSES, seed + 1)
    sink, tolerance = Keep(), fixture.header["tolerance"]
    infer = make_infer(case["args"].plain())
    summary = evaluate_one(infer, torch.from_numpy(image), label, [sink])
    result, scores = sink.results[0], summary.scores
    assert scores is not None and result.label is not None and result.prob is not None
    errors = (result.pred != result.label) & (result.label < CLASSES)
    pred, confusion, packed = (array_of(fixture, case, k)[0] for k in ("pred", "hist", "err"))
    prob, step = array_of(fixture, case, "prob")
    limits = tolerance["atol"], tolerance["rtol"]
    recorded = sorted({published_key(key) for key in case["asset_keys"]})
    rows = [
        compare(f"{name} pred", result.pred, pred),
        compare(f"{name} confusion", scores.matrix, confusion),
        compare(f"{name} errors", np.packbits(errors, axis=-1), packed),
        compare(f"{name} prob", result.prob[::step, ::step], prob, *limits),
        compare(f"{name} prob mean", result.prob.mean(), case["prob_mean"], *limits),
        compare(f"{name} loss", summary.loss, case["val_loss"], *limits),
        compare(f"{name} error pixels", int(errors.sum()), case["err_pixels"]),
        compare(f"{name} pixels", scores.matrix.sum(), case["pixels_in_confusion_matrix"]),
        same(f"{name} assets", sorted({*result.assets, *ALWAYS}), recorded),
    ]
    return rows + score_rows(name, case["metrics"], scores.matrix)


def published_key(key: str) -> str:
    """`pred_1.0x` -> `pred_10x`; other assets have one name."""
    return key.replace(".", "") if key.startswith(("pred_", "attn_")) else key


def check_minibatch(fixture: Fixture) -> list[Row]:
    """Every recorded evaluation."""
    return [
        row
        for number, case in enumerate(fixture.cases)
        for row in case_rows(fixture, case, f"{fixture.name}/{number}")
    ]


CHECKS = (
    Check(
        "hmsa evaluation",
        lambda fixture: "asset_keys" in first_case(fixture),
        check_minibatch,
        {
            "cases.*.label": "what the case is called",
            "tolerance.pixels": "in words",
            "stub": "describes the network",
            "resize": "describes the resize",
            "input": "says how the inputs are drawn",
            "cases.*.args": "empty",
            "cases.*.args.default_scale": "a setting",
        },
    ),
)
