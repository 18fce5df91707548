# SPDX-License-Identifier: Apache-2.0
"""The page about a set of auto labels: how much of every class is kept at a threshold.

One self-contained file: a slider moves the threshold over the confidences that were counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.spec import DatasetSpec
from reports.render import write_html

NUM_STEPS = 20  # of the confidence 0..1
THRESHOLD = 0.5  # of the published recipe

Counts = npt.NDArray[np.int64]


def kept_shares(counts: Counts, step: int) -> npt.NDArray[np.float64]:
    """Share of every class's pixels at or above a step, (K,); NaN for a class without pixels.

    counts: (K, NUM_STEPS) pixels by confidence; step k stands for the threshold k / NUM_STEPS.
    """
    total = counts.sum(1)
    with np.errstate(invalid="ignore"):
        shares: npt.NDArray[np.float64] = counts[:, step:].sum(1) / total
    return shares


def write_autolabel_page(
    path: Path,
    *,
    spec: DatasetSpec,
    counts: Counts,
    images: Counts,
    num_images: int,
    threshold: float | None,
    run: Mapping[str, Any],
) -> None:
    """Write the page to `path`.

    counts: (K, NUM_STEPS) pixels of every class by confidence. images: (K,) number of images that
    hold the class. threshold: what the page shows first, at the nearest step; None: 0.5. `run`
    holds facts that are shown as a table.
    """
    step = min(round((THRESHOLD if threshold is None else threshold) * NUM_STEPS), NUM_STEPS - 1)
    total = int(counts.sum())
    shares = kept_shares(counts, step)
    rows = [
        {
            "name": name,
            "color": "#{:02x}{:02x}{:02x}".format(*spec.palette[number]),
            "images": int(images[number]),
            "pixels": int(counts[number].sum()),
            "share": f"{100 * counts[number].sum() / total:.3f}" if total else "",
            "kept": "" if np.isnan(shares[number]) else f"{100 * shares[number]:.2f}",
        }
        for number, name in enumerate(spec.class_names)
    ]
    write_html(
        path,
        "autolabels.html.j2",
        title=f"Auto labels of {spec.name}",
        subtitle="What a network predicted for every pixel, and how much of it a threshold keeps",
        num_images=num_images,
        rows=rows,
        step=step,
        num_steps=NUM_STEPS,
        threshold=f"{step / NUM_STEPS:.2f}",
        kept=f"{100 * counts[:, step:].sum() / total:.2f}" if total else "",
        absent=[row["name"] for row in rows if not row["pixels"]],
        facts=[(key, str(value)) for key, value in run.items()],
        data={"counts": counts.tolist()},
    )
