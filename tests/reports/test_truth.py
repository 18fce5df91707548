# SPDX-License-Identifier: Apache-2.0
"""Our scores are those of the public Cityscapes evaluation of our submission folder."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from datasets.base import SegmentationDataset
from datasets.loader import make_loader
from datasets.synthetic import SPEC, list_items
from engine.compute import Compute
from engine.evaluate import evaluate
from metrics.confusion import Scores
from reports.submission import SubmissionSink

# The set has no instance files; everything else is the package as it is.
PROGRAM = """
import cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling as official
official.args.evalInstLevelScore = False
official.args.colorized, official.args.bold, official.args.nocol = False, "", ""
official.main()
"""


def official_scores(root: Path, out: Path) -> tuple[str, dict[str, float], float]:
    """What csEvalPixelLevelSemanticLabeling prints, and its class and mean IoU."""
    environment = {
        **os.environ,
        "CITYSCAPES_DATASET": str(root / "gtFine_trainvaltest"),
        "CITYSCAPES_RESULTS": str(out / "submit"),
        "CITYSCAPES_EXPORT_DIR": str(out),
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((out / "resultPixelLevelSemanticLabeling.json").read_text())
    return done.stdout, content["classScores"], content["averageScoreClasses"]


def imperfect(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Scores whose argmax is the label, shifted, with wrong blocks and no class 16 or 17."""
    guess = torch.where(labels == SPEC.ignore_label, 0, labels).roll(3, -1)
    blocks = torch.randint(0, SPEC.num_classes, (1, 8, 8), generator=generator)
    noise = blocks.repeat_interleave(guess.shape[-2] // 8 + 1, 1)[:, : guess.shape[-2]]
    noise = noise.repeat_interleave(guess.shape[-1] // 8 + 1, 2)[:, :, : guess.shape[-1]]
    guess = torch.where((images[:, 0] > 1.2), noise, guess)
    guess = torch.where((guess == 16) | (guess == 17), 2, guess)
    return torch.nn.functional.one_hot(guess, SPEC.num_classes).movedim(-1, 1).float()


def evaluate_imperfect(root: Path, out: Path) -> Scores:
    """Evaluate the val split with wrong answers, and write the submission."""
    items = list_items(root, "val")
    dataset = SegmentationDataset(items, SPEC)
    loader = make_loader(dataset, SequentialSampler(dataset), 2, 0)
    sink = SubmissionSink(out, SPEC, items)
    generator, labels = torch.Generator().manual_seed(0), []

    def batches() -> object:
        for batch in loader:
            labels.append(batch.labels)
            yield batch

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        return {"pred": imperfect(images, labels[-1], generator)}

    summary = evaluate(infer, batches(), SPEC, Compute(device=torch.device("cpu")), sinks=[sink])
    assert summary.scores is not None
    sink.finish()
    return summary.scores


def test_scores_equal_the_official_evaluation_of_the_submission(
    street_root: Path, tmp_path: Path
) -> None:
    scores = evaluate_imperfect(street_root, tmp_path)
    printed, classes, mean = official_scores(street_root, tmp_path)
    assert 0.2 < scores.mean_iu < 0.95, "the predictions must be neither perfect nor noise"
    assert mean == pytest.approx(scores.mean_iu, abs=1e-12)
    average = re.search(r"Score Average\s*:\s*(\S+)", printed)
    assert average is not None and average[1] == f"{scores.mean_iu:.3f}"
    for name, ours in zip(SPEC.class_names, scores.iou, strict=True):
        line = re.search(rf"^{name}\s*: +(\S+)", printed, re.MULTILINE)
        assert line is not None and line[1] == f"{ours:.3f}", name
        assert classes[name] == pytest.approx(ours, abs=1e-12, nan_ok=True)
    assert sum(not math.isnan(value) for value in scores.iou) >= 10
    files = sorted((tmp_path / "submit").glob("*.png"))
    assert len(files) == len(list_items(street_root, "val"))
    assert all(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == np.uint8 for path in files)
