# SPDX-License-Identifier: Apache-2.0
"""What the newest demo reached: IoU table, report page, mIoU; exit code 3 when it failed.

    python -m scripts.demo_summary            # the last step of `make demo`

runx drops the exit codes of its runs, so this looks at what they left behind: both runs `done`,
the evaluated checkpoint from the newest training run, every promised file, mIoU above the bar.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from metrics.confusion import Scores

ROOT = Path(__file__).resolve().parent.parent
MIN_MIOU = 0.35  # measured: 0.455; a constant or untrained prediction stays below 0.04
PROMISED = ("results.json", "best_images/index.html", "submission.zip")


class DemoError(Exception):
    """The demo did not do what it promises."""


def newest(experiment: Path, kind: str) -> Path:
    """The newest run directory of `kind` (train or eval), finished with status `done`."""
    runs = sorted(experiment.glob(f"{kind}_*"), key=lambda path: path.stat().st_mtime_ns)
    started = [run for run in runs if (run / "code").exists()]
    if not started:
        raise DemoError(f"no {kind} run in {experiment}")
    run = started[-1]
    try:
        status = json.loads((run / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DemoError(f"{run}: the run ended before it wrote status.json") from None
    if status["status"] != "done":
        raise DemoError(f"{run}: {status['status']}: {status.get('reason', '')}")
    return run


def check(train: Path, evaluation: Path) -> dict[str, Any]:
    """The results of `evaluation`, made from a checkpoint of `train`, with all files there."""
    missing = [name for name in PROMISED if not (evaluation / name).is_file()]
    if missing:
        raise DemoError(f"{evaluation}: {', '.join(missing)} missing")
    results: dict[str, Any] = json.loads((evaluation / "results.json").read_text(encoding="utf-8"))
    snapshot = (evaluation / "code" / str(results["protocol"]["snapshot"])).resolve()
    if snapshot.parent != train.resolve():
        raise DemoError(f"{evaluation}: evaluated {snapshot}, which is not of {train.name}")
    return results


def show(evaluation: Path, results: dict[str, Any]) -> None:
    """Print what the demo ends with; DemoError when the score is below the bar."""
    matrix = np.array(results["confusion"], dtype=np.int64)
    scores = Scores.of(matrix, [item["name"] for item in results["classes"]])
    rows = matrix.sum(1)
    constant = rows.max() / rows.sum() / (rows > 0).sum()
    lines = [
        scores.table(),
        "",
        f"report      {evaluation / 'best_images' / 'index.html'}",
        f"submission  {evaluation / 'submission.zip'}",
        f"mIoU        {100 * scores.mean_iu:.2f} (bar {100 * MIN_MIOU:.0f}; "
        f"the best constant prediction has {100 * constant:.2f})",
    ]
    print("\n".join(lines))
    if scores.mean_iu < MIN_MIOU:
        raise DemoError(f"mIoU {100 * scores.mean_iu:.2f} is below {100 * MIN_MIOU:.0f}")


def main() -> int:
    """Print the summary; 0 when everything is as promised, else 3 and one line."""
    try:
        settings = yaml.safe_load((ROOT / ".runx").read_text(encoding="utf-8"))
        experiment = Path(settings["LOGROOT"]) / "demo"
        evaluation = newest(experiment, "eval")
        show(evaluation, check(newest(experiment, "train"), evaluation))
    except (DemoError, OSError) as error:
        print(f"demo failed: {error}")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
