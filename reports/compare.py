# SPDX-License-Identifier: Apache-2.0
"""Two runs on the same images: what differs, and whether it is more than noise.

    python -m reports.compare A B                     # writes B/compare.html and B/compare.json
    python -m reports.compare A B --out PAGE.html     # the JSON file beside it

A and B are trainings (the validation of the best checkpoint), evaluations, or checkpoints of a
training. Intervals are those of a paired bootstrap over the images: see `metrics.paired`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.paired import LEVEL, RESAMPLES, SUMMARY, PairedScores, compare_pairs
from reports.changed_images import (
    CHANGE_COLORS,
    GAINED,
    LOST,
    OTHER,
    ChangedImage,
    ranked,
    with_pictures,
)
from reports.render import write_html
from reports.run_facts import MISSING, aligned, shown
from reports.scored_runs import Row, ScoredRun, differences, open_run, paired
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.files import write_atomic

PAGE, FORMAT = "compare.html", "hiseg-compare-1"
NAMES = dict(zip(SUMMARY, ("mean IoU", "pixel accuracy", "mean class accuracy"), strict=True))
TOLD = ("better", "worse")  # verdicts
FEWEST, MOST, MAX_IMAGES = 100, 100_000, 100
PRINTED = 30  # rows of a table of differences


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All that is said about two runs."""

    a: ScoredRun
    b: ScoredRun
    scores: PairedScores
    differences: dict[str, list[Row]]
    notes: list[str]
    changed: list[ChangedImage]  # those that are shown

    @property
    def class_names(self) -> tuple[str, ...]:
        """The K classes of both."""
        return self.a.scores.counts.class_names

    @property
    def main(self) -> int:
        """Where the mean IoU stands among the scores."""
        return len(self.class_names)

    def rows(self) -> list[dict[str, Any]]:
        """Every score in percent: the classes, then the summary."""
        scores = self.scores
        names = [*map(shown, self.class_names), *NAMES.values()]
        return [
            {
                "name": name,
                "images": int(scores.images[number]),
                **{
                    key: _percent(values[number])
                    for key, values in (("a", scores.a), ("b", scores.b), ("low", scores.low),
                                        ("high", scores.high), ("difference", scores.difference))
                },
                "verdict": scores.verdict(number),
            }
            for number, name in enumerate(names)
        ]  # fmt: skip

    def headline(self) -> str:
        """The answer in one sentence."""
        row = self.rows()[self.main]
        if row["difference"] is None:
            return "No class is labelled in these images: there is nothing to compare."
        by = f"{row['difference']:+.2f} points of mean IoU"
        interval = f"{100 * LEVEL:.0f} % interval {_interval(row)}"
        return {
            "better": f"B is better: {by}, {interval}.",
            "worse": f"B is worse: {by}, {interval}.",
            "within noise": f"Within noise: {by}, {interval} holds 0.",
        }.get(row["verdict"], f"{row['images']} images are too few to tell: {by}.")

    def class_line(self) -> str:
        """How many classes differ, and how many would by chance."""
        rows = self.rows()[: self.main]
        judged = [row for row in rows if row["verdict"] in (*TOLD, "within noise")]
        told = [row["name"] for row in judged if row["verdict"] in TOLD]
        which = f" ({', '.join(told)})" if told else ""
        chance = (1 - LEVEL) * len(judged)
        return (
            f"{len(told)} of {len(judged)} classes differ by more than noise{which}; without any "
            f"difference about {chance:.1f} would."
        )


def _percent(value: float) -> float | None:
    """A share in percent, None for NaN."""
    return None if math.isnan(value) else 100 * float(value)


def _text(value: float | None, sign: str = "") -> str:
    return MISSING if value is None else f"{value:{sign}.2f}"


def _interval(row: dict[str, Any]) -> str:
    return f"{_text(row['low'], '+')} to {_text(row['high'], '+')}"


def compare(
    first: Path, second: Path, *, common: bool, resamples: int, seed: int, images: int
) -> Comparison:
    """Compare two runs; UserError for what cannot be compared."""
    a, b = paired(open_run(first), open_run(second), common)
    areas_a, areas_b = a.scores.counts.areas(), b.scores.counts.areas()
    scores = compare_pairs(areas_a, areas_b, resamples=resamples, seed=seed)
    notes = [*a.notes, *b.notes]
    count = len(a.scores.counts.class_names)
    other = abs(areas_a - areas_b)[:, count : 2 * count].sum(1) > 0
    if other.any():
        notes.append(
            f"the labels of {int(other.sum())} images differ between A and B (other files, size or "
            "part of the image): their scores are not of the same pixels"
        )
    if a.is_evaluation != b.is_evaluation:
        notes.append("one is a validation of a training, the other an evaluation: the way of "
                     "scoring may differ, too")  # fmt: skip
    changed, line = with_pictures(ranked(a, b), a, b, images)
    return Comparison(
        a=a,
        b=b,
        scores=scores,
        differences=differences(a, b),
        notes=[*dict.fromkeys([*notes, *filter(None, [line])])],
        changed=changed,
    )


def text_of(comparison: Comparison) -> str:
    """The comparison as lines of text."""
    sides = {"A": comparison.a, "B": comparison.b}
    lines = [f"{side}: {shown(str(run.folder))} ({run.what})" for side, run in sides.items()]
    for title, rows in comparison.differences.items():
        cut = [(name, _short(left), _short(right)) for name, left, right in rows[:PRINTED]]
        lines += ["", aligned([(title, "A", "B"), *cut])]
        if len(rows) > PRINTED:
            lines.append(f"and {len(rows) - PRINTED} more, on the page")
    table = [["class", "images", "A", "B", "B - A", f"{100 * LEVEL:.0f} % interval", ""]]
    for row in comparison.rows():
        numbers = [_text(row["a"]), _text(row["b"]), _text(row["difference"], "+")]
        table.append([row["name"], str(row["images"]), *numbers, _interval(row), row["verdict"]])
    lines += ["", aligned(table), "", comparison.headline(), comparison.class_line()]
    return "\n".join([*lines, *(f"note: {note}" for note in comparison.notes)])


def _short(text: str, most: int = 48) -> str:
    """`text`, its middle left out where it is long."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[-most // 2 + 2 :]}"


def json_of(comparison: Comparison, resamples: int, seed: int) -> dict[str, Any]:
    """The comparison in plain types, scores in percent; null for a score that there is not."""
    rows = comparison.rows()
    sides = {"a": comparison.a, "b": comparison.b}
    return {
        "format": FORMAT,
        **{key: {"folder": str(run.folder), "what": run.what} for key, run in sides.items()},
        "images": len(comparison.a.scores.counts.names),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": LEVEL},
        "verdict": rows[comparison.main]["verdict"],
        "scores": dict(zip(SUMMARY, rows[comparison.main :], strict=True)),
        "classes": rows[: comparison.main],
        "differences": comparison.differences,
        "notes": comparison.notes,
        "changed": [
            {"name": image.name, "a": 100 * image.a, "b": 100 * image.b}
            for image in comparison.changed
        ],
    }


def write_compare_page(path: Path, comparison: Comparison, resamples: int) -> None:
    """The comparison as a page that needs no other file."""
    rows, main = comparison.rows(), comparison.main
    bounds = [abs(row[key]) for row in rows for key in ("low", "high") if row[key] is not None]
    colors = ["#{:02x}{:02x}{:02x}".format(*color) for color in comparison.a.scores.palette]
    mean = rows[main]
    figures = [("B − A, mean IoU", _text(mean["difference"], "+")), ("A, mean IoU %", _text(mean["a"])),
               ("B, mean IoU %", _text(mean["b"])), ("images", str(mean["images"]))]  # fmt: skip
    write_html(
        path,
        "compare.html.j2",
        title=f"{shown(comparison.b.folder.name)} against {shown(comparison.a.folder.name)}",
        subtitle="B against A: what differs, and whether it is more than noise",
        figures=[{"label": label, "value": value} for label, value in figures],
        sides=[
            {"name": name, "folder": shown(str(run.folder)), "what": run.what}
            for name, run in (("A", comparison.a), ("B", comparison.b))
        ],
        headline=comparison.headline(),
        class_line=comparison.class_line(),
        notes=comparison.notes,
        level=f"{100 * LEVEL:.0f} %",
        resamples=f"{resamples:,}",
        rows=[
            {**_cells(row, max(bounds, default=1.0) or 1.0), "color": color}
            for row, color in zip(rows, [*colors, *[""] * len(SUMMARY)], strict=True)
        ],
        tables=[{"title": title, "rows": own} for title, own in comparison.differences.items()],
        changed=[
            {"name": shown(image.name), "pictures": image.pictures, "a": f"{100 * image.a:.1f}",
             "b": f"{100 * image.b:.1f}", "change": f"{100 * image.change:+.1f}"}
            for image in comparison.changed
        ],
        legend=[
            {"color": f"rgb{CHANGE_COLORS[kind]}", "text": text}
            for kind, text in ((GAINED, "right in B alone"), (LOST, "right in A alone"),
                               (OTHER, "wrong in both, differently"))
        ],
        classes=[{"name": row["name"], "color": color} for row, color in zip(rows, colors)],
    )  # fmt: skip


def _cells(row: dict[str, Any], bound: float) -> dict[str, Any]:
    """A row of the table of scores: texts with what they are sorted by, and its bar.

    The bar goes from -bound to bound: left end, width and dot in percent of its length.
    """
    numbers = [(_text(row["a"]), row["a"]), (_text(row["b"]), row["b"]),
               (_text(row["difference"], "+"), row["difference"])]  # fmt: skip
    bar = None
    if row["low"] is not None and row["difference"] is not None:
        places = [50 + 50 * row[key] / bound for key in ("low", "high", "difference")]
        low, high, dot = (min(max(place, 0.0), 100.0) for place in places)
        bar = {"left": f"{low:.2f}", "width": f"{high - low:.2f}", "dot": f"{dot:.2f}"}
    return {
        **row,
        "numbers": [(text, "" if value is None else repr(value)) for text, value in numbers],
        "interval": _interval(row),
        "bar": bar,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison, write page and JSON; 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="reports.compare", description=__doc__.split("\n")[0])
    parser.add_argument("a", type=Path, help="run, evaluation or checkpoint to compare with")
    parser.add_argument("b", type=Path, help="run, evaluation or checkpoint that is judged")
    parser.add_argument("--out", type=Path, help=f"the page; default {PAGE} in the folder of B")
    parser.add_argument("--common", action="store_true", help="compare on images that both have")
    parser.add_argument("--images", type=int, default=8, help="how many changed images are shown")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="draws of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    given = vars(parser.parse_args(argv))
    streams.tolerate()
    try:
        _check(given)
        comparison = compare(
            given["a"], given["b"], common=given["common"], resamples=given["resamples"],
            seed=given["seed"], images=given["images"],
        )  # fmt: skip
        page = given["out"] or comparison.b.folder / PAGE
        content = json_of(comparison, given["resamples"], given["seed"])
        write_atomic(page.with_suffix(".json"), f"{json.dumps(content, indent=1)}\n".encode())
        write_compare_page(page, comparison, given["resamples"])
    except OSError as error:
        return wrong_input(f"{error.filename}: {error.strerror}; --out PAGE writes elsewhere")
    except UserError as error:
        return wrong_input(error)
    print(text_of(comparison))
    print(f"page: {shown(str(page))}")
    return 0


def _check(given: dict[str, Any]) -> None:
    """UserError for a number that makes no sense."""
    for name, low, high in (("resamples", FEWEST, MOST), ("images", 0, MAX_IMAGES),
                            ("seed", 0, 2**63)):  # fmt: skip
        if not low <= given[name] <= high:
            raise UserError(f"--{name} {given[name]}: a number from {low} to {high} is wanted")
    if given["out"] is not None and given["out"].suffix == ".json":
        raise UserError(f"--out {given['out']} names the page; its JSON file lies beside it")


if __name__ == "__main__":
    sys.exit(main())
