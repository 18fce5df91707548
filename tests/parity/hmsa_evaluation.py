# SPDX-License-Identifier: Apache-2.0
"""The recorded evaluation of one image: flip, scales, confidence, loss, confusion, scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.cityscapes import SPEC
from datasets.loader import Batch
from engine.evaluate import evaluate
from engine.predict import Infer, flip, multi_scale, whole
from engine.result import EvalSummary, Gather, Result, Sink
from tests.parity import recipe
from tests.parity.core import Fixture, Row, compare

SCALES = (1.0, 0.5, 2.0)  # default_scale, then extra_scales


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
        self.results: list[Result] = []

    def wants(self, index: int) -> bool:
        return True

    def done(self, name: str) -> bool:
        return False

    def add(self, result: Result) -> None:
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

    return evaluate(infer, [batch], SPEC, torch.device("cpu"), sinks=sinks, val_loss=loss)


def make_infer(arguments: dict[str, Any]) -> Infer:
    """The procedure of a case from the flags it was recorded with."""
    infer = whole(Stub(), return_all=True)
    if arguments.get("multi_scale_inference"):
        infer = multi_scale(infer, SCALES)
    return flip(infer) if arguments.get("do_flip") else infer


def check_minibatch(fixture: Fixture) -> list[Row]:
    rows = []
    tolerance = {key: fixture.header["tolerance"][key] for key in ("atol", "rtol")}
    for number, case in enumerate(fixture.header["cases"]):
        size, seed = (case["height"], case["width"]), case["seed"]
        image, label = recipe.image(*size, seed), recipe.label(*size, 19, seed + 1)
        sink = Keep()
        summary = evaluate_one(make_infer(case["args"]), torch.from_numpy(image), label, [sink])
        result, scores = sink.results[0], summary.scores
        assert scores is not None and result.label is not None and result.prob is not None
        errors = (result.pred != result.label) & (result.label < 19)
        plain = {key.replace(".", "") for key in case["asset_keys"] if key.startswith("pred_")}
        got = {
            "pred": (result.pred, fixture.arrays[f"pred{number}"], {}),
            "confusion": (scores.matrix, fixture.arrays[f"hist{number}"], {}),
            "errors": (np.packbits(errors, axis=-1), fixture.arrays[f"err{number}"], {}),
            "prob": (result.prob[::2, ::2], fixture.arrays[f"prob{number}"], tolerance),
            "prob mean": (result.prob.mean(), case["prob_mean"], tolerance),
            "loss": (summary.loss, case["val_loss"], tolerance),
            "picture of the pass": (plain == set(result.assets), 1, {}),
            **score_rows(case, scores),
        }
        for what, (value, want, allowed) in got.items():
            allowed = allowed or {"atol": 0.0, "rtol": 0.0}
            name = f"{fixture.name}/{case['label']} {what}"
            rows.append(compare(name, np.asarray(value), np.asarray(want), **allowed))
    return rows


def score_rows(case: dict[str, Any], scores: Any) -> dict[str, tuple[Any, Any, dict[str, float]]]:
    """Scores that have a value, against the recorded ones with the right way round."""
    recorded = {**case["metrics"], **case["metrics"]["correct"]}
    exact = {"atol": 1e-12, "rtol": 0.0}
    rows = {}
    for name in ("mean_iu", "acc", "acc_cls", "fwavacc", "iou", "precision", "recall"):
        want = np.asarray(recorded[name], np.float64)  # null becomes NaN
        got = np.asarray(getattr(scores, name), np.float64)
        rows[name] = (np.nan_to_num(got, nan=-1.0), np.nan_to_num(want, nan=-1.0), exact)
    return rows


CHECKS: dict[str, Callable[[Fixture], list[Row]]] = {"eval_minibatch": check_minibatch}
