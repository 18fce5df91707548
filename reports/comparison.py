# SPDX-License-Identifier: Apache-2.0
"""What is said about two runs that were compared, and the page that says it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.paired import LEVEL, SUMMARY, PairedScores
from reports.changed_images import CHANGE_COLORS, GAINED, LOST, OTHER, ChangedImage
from reports.render import write_html
from reports.run_facts import MISSING, shown
from reports.scored_runs import Row, ScoredRun
from runtime.limits import counted

NAMES = dict(zip(SUMMARY, ("mean IoU", "pixel accuracy", "mean class accuracy"), strict=True))
JUDGED, TOLD = ("better", "worse", "within noise"), ("better", "worse")  # verdicts
LISTED = 12  # classes in a sentence
LEGEND = {GAINED: "right in B alone", LOST: "right in A alone", OTHER: "differently wrong"}


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A score of both runs in percent, and B - A with its interval; None where there is none."""

    name: str
    images: int
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str

    def texts(self) -> tuple[str, str, str, str]:
        """A, B, difference and interval as tables show them."""
        low, high = _text(self.low, "+"), _text(self.high, "+")
        interval = MISSING if self.low is None else f"{low} to {high}"
        return _text(self.a), _text(self.b), _text(self.difference, "+"), interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is said about two runs; `draws` and `seed` are those of the bootstrap.

    changed: the images that are shown. missing: a line about pictures that there are not.
    """

    a: ScoredRun
    b: ScoredRun
    scores: PairedScores
    differences: dict[str, list[Row]]
    notes: list[str]
    changed: list[ChangedImage]
    missing: str
    draws: int
    seed: int

    def classes(self) -> list[ScoreRow]:
        """The IoU of every class."""
        return self._rows()[: -len(SUMMARY)]

    def summary(self) -> dict[str, ScoreRow]:
        """The scores of all classes together, by their key in results.json."""
        return dict(zip(SUMMARY, self._rows()[-len(SUMMARY) :], strict=True))

    def _rows(self) -> list[ScoreRow]:
        names = [*map(shown, self.a.scores.counts.class_names), *NAMES.values()]
        own = self.scores
        return [
            ScoreRow(
                name=name,
                images=int(own.images[number]),
                a=_percent(own.a[number]),
                b=_percent(own.b[number]),
                difference=_percent(own.difference[number]),
                low=_percent(own.low[number]),
                high=_percent(own.high[number]),
                verdict=own.verdict(number),
            )
            for number, name in enumerate(names)
        ]

    def headline(self) -> str:
        """The answer in one sentence."""
        mean = self.summary()["mean_iu"]
        if mean.difference is None:
            return "No class is labelled in these images: there is nothing to compare."
        by = f"{mean.difference:+.2f} points of mean IoU"
        interval = f"{100 * LEVEL:.0f} % interval {mean.texts()[3]}"
        return {
            "better": f"B is better: {by}, {interval}.",
            "worse": f"B is worse: {by}, {interval}.",
            "within noise": f"Within noise: {by}, {interval}.",
        }.get(mean.verdict, f"{counted(mean.images, 'image')}, too few to tell: {by}.")

    def class_line(self) -> str:
        """How many classes differ, and how many would by chance."""
        judged = [row for row in self.classes() if row.verdict in JUDGED]
        if not judged:
            return "No class is in enough images to tell."
        told = [row.name for row in judged if row.verdict in TOLD]
        names = [*told[:LISTED], *(["..."] if len(told) > LISTED else [])]
        which = f" ({', '.join(names)})" if told else ""
        chance = (1 - LEVEL) * len(judged)
        return (
            f"{len(told)} of {len(judged)} classes differ by more than noise{which}; between equal "
            f"runs about {chance:.1f} would seem to."
        )


def _percent(value: float) -> float | None:
    """A share in percent, None for NaN."""
    return None if math.isnan(value) else 100 * float(value)


def _text(value: float | None, sign: str = "") -> str:
    return MISSING if value is None else f"{value:{sign}.2f}"


def write_compare_page(path: Path, comparison: Comparison) -> None:
    """The comparison as a page that needs no other file."""
    a, b, mean = comparison.a, comparison.b, comparison.summary()["mean_iu"]
    left, right, difference, _ = mean.texts()
    palette = ["#{:02x}{:02x}{:02x}".format(*color) for color in a.scores.palette]
    classes = list(zip(comparison.classes(), palette, strict=True))
    rows = [*classes, *((row, "") for row in comparison.summary().values())]
    bounds = [abs(end) for row, _ in rows for end in (row.low, row.high) if end is not None]
    longest = max([*bounds, 1e-9])
    write_html(
        path,
        "compare.html.j2",
        title=_title(a.folder, b.folder),
        subtitle="B against A: what differs, and whether it is more than noise",
        figures=[
            {"label": "B − A, mean IoU", "value": difference},
            {"label": "A, mean IoU %", "value": left},
            {"label": "B, mean IoU %", "value": right},
            {"label": "images", "value": str(mean.images)},
        ],
        sides=[
            {"name": name, "folder": shown(str(run.folder)), "what": run.what}
            for name, run in (("A", a), ("B", b))
        ],
        headline=comparison.headline(),
        class_line=comparison.class_line(),
        notes=comparison.notes,
        level=f"{100 * LEVEL:.0f} %",
        draws=f"{comparison.draws:,}",
        rows=[_cells(row, color, longest) for row, color in rows],
        tables=[{"title": title, "rows": own} for title, own in comparison.differences.items()],
        changed=_shown_images(comparison.changed),
        missing=comparison.missing,
        legend=[{"color": f"rgb{CHANGE_COLORS[kind]}", "text": LEGEND[kind]} for kind in LEGEND],
        classes=[{"name": row.name, "color": color} for row, color in classes],
    )


def _title(a: Path, b: Path) -> str:
    """The names of both folders, with those above them until they differ."""
    left, right = a.resolve().parts, b.resolve().parts
    depths = range(1, max(len(left), len(right)))
    depth = next((depth for depth in depths if left[-depth:] != right[-depth:]), 1)
    return " against ".join(shown("/".join(parts[-depth:])) for parts in (right, left))


def _cells(row: ScoreRow, color: str, longest: float) -> dict[str, Any]:
    """A row of the table of scores: texts with what they are sorted by, and its bar.

    The bar goes from -longest to longest: left end, width and dot in percent of its length.
    """
    bar = None
    if row.low is not None and row.high is not None and row.difference is not None:
        ends = [50 + 50 * value / longest for value in (row.low, row.high, row.difference)]
        low, high, dot = (min(max(end, 0.0), 100.0) for end in ends)
        bar = {"left": f"{low:.2f}", "width": f"{high - low:.2f}", "dot": f"{dot:.2f}"}
    a, b, difference, interval = row.texts()
    values = {"a": (a, row.a), "b": (b, row.b), "difference": (difference, row.difference)}
    return {
        "name": row.name,
        "color": color,
        "images": row.images,
        "verdict": row.verdict,
        "interval": interval,
        "bar": bar,
        **{key: {"text": text, "value": "" if value is None else repr(value)}
           for key, (text, value) in values.items()},
    }  # fmt: skip


def _shown_images(images: Sequence[ChangedImage]) -> list[dict[str, Any]]:
    return [
        {
            "name": shown(image.name),
            "pictures": image.pictures,
            "a": f"{100 * image.a:.1f}",
            "b": f"{100 * image.b:.1f}",
            "change": f"{100 * image.change:+.1f}",
        }
        for image in images
    ]
