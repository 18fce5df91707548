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
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metrics.paired import DRAWS, LEVEL, compare_pairs
from reports.changed_images import ranked, with_pictures
from reports.comparison import Comparison, write_compare_page
from reports.run_facts import aligned, shown
from reports.scored_runs import TRAINING, differences, open_run, paired
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.files import read_mapping, write_atomic

PAGE, FORMAT = "compare.html", "hiseg-compare-1"
RANGES = {"draws": (100, 100_000), "images": (0, 100), "seed": (0, 2**63)}  # of numbers
PRINTED = 30  # rows of a table of differences


def compare(
    first: Path, second: Path, *, common: bool, draws: int, seed: int, images: int
) -> Comparison:
    """Compare two runs, and show so many images; UserError for what cannot be compared."""
    a, b = paired(open_run(first), open_run(second), common)
    areas_a, areas_b = a.scores.counts.areas(), b.scores.counts.areas()
    notes = [*a.notes, *b.notes]
    count = len(a.scores.counts.class_names)
    other = abs(areas_a - areas_b)[:, count : 2 * count].sum(1) > 0
    if other.any():
        notes.append(
            f"the labels differ in {int(other.sum())} of {len(other)} images (other files, size or "
            "part of the image): the scores are not of the same pixels"
        )
    if a.is_evaluation != b.is_evaluation:
        notes.append(
            "one is a validation of a training, the other an evaluation: they may have been scored "
            "in different ways"
        )
    differing = differences(a, b)
    if [name for name, _, _ in differing.get(TRAINING, [])] == ["seed"]:
        notes.append(
            "the trainings differ by their seed alone, and another seed always gives other scores"
        )
    changed, missing = with_pictures(ranked(a, b), a, b, images)
    return Comparison(
        a=a,
        b=b,
        scores=compare_pairs(areas_a, areas_b, draws=draws, seed=seed),
        differences=differing,
        notes=list(dict.fromkeys(notes)),
        changed=changed,
        missing=missing,
        draws=draws,
        seed=seed,
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
    table = [("class", "images", "A", "B", "B - A", f"{100 * LEVEL:.0f} % interval", "")]
    for row in [*comparison.classes(), *comparison.summary().values()]:
        table.append((row.name, str(row.images), *row.texts(), row.verdict))
    lines += ["", aligned(table), "", comparison.headline(), comparison.class_line()]
    notes = [*comparison.notes, *filter(None, [comparison.missing])]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


def _short(text: str, most: int = 48) -> str:
    """`text`, its middle left out where it is long."""
    return text if len(text) <= most else f"{text[: most // 2 - 2]}...{text[-most // 2 + 2 :]}"


def json_of(comparison: Comparison) -> dict[str, Any]:
    """The comparison in plain types, scores in percent; null for a score that there is not."""
    sides, summary = {"a": comparison.a, "b": comparison.b}, comparison.summary()
    return {
        "format": FORMAT,
        **{key: {"folder": str(run.folder), "what": run.what} for key, run in sides.items()},
        "images": summary["mean_iu"].images,
        "bootstrap": {"draws": comparison.draws, "seed": comparison.seed, "level": LEVEL},
        "verdict": summary["mean_iu"].verdict,
        "scores": {key: asdict(row) for key, row in summary.items()},
        "classes": [asdict(row) for row in comparison.classes()],
        "differences": comparison.differences,
        "notes": comparison.notes,
        "changed": [
            {"name": image.name, "a": 100 * image.a, "b": 100 * image.b}
            for image in comparison.changed
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison, write page and JSON; 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="reports.compare", description=__doc__.split("\n")[0])
    parser.add_argument("a", type=Path, help="run, evaluation or checkpoint to compare with")
    parser.add_argument("b", type=Path, help="run, evaluation or checkpoint that is judged")
    parser.add_argument("--out", type=Path, help=f"the page; default {PAGE} in the folder of B")
    parser.add_argument("--common", action="store_true", help="compare on images that both have")
    parser.add_argument("--images", type=int, default=8, help="how many changed images are shown")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    given = vars(parser.parse_args(argv))
    streams.tolerate()
    out = given.pop("out")
    try:
        _check(given)
        comparison = compare(given.pop("a"), given.pop("b"), **given)
        page = out or comparison.b.folder / PAGE
        _write(page, comparison)
    except OSError as error:
        return wrong_input(f"{error.filename}: {error.strerror}; --out PAGE writes elsewhere")
    except UserError as error:
        return wrong_input(error)
    print(text_of(comparison))
    print(f"page: {shown(str(page))}")
    return 0


def _write(page: Path, comparison: Comparison) -> None:
    """Write the page and the JSON file beside it; UserError where that is another file."""
    beside = page.with_suffix(".json")
    if beside == page or (beside.exists() and read_mapping(beside).get("format") != FORMAT):
        raise UserError(f"--out {page}: {beside}, which would be written too, is another file")
    write_compare_page(page, comparison)
    text = json.dumps(json_of(comparison), indent=1)
    write_atomic(beside, f"{text}\n".encode())


def _check(given: Mapping[str, Any]) -> None:
    """UserError for a number that makes no sense."""
    for name, (low, high) in RANGES.items():
        if not low <= given[name] <= high:
            raise UserError(f"--{name} {given[name]}: a number from {low} to {high} is wanted")


if __name__ == "__main__":
    sys.exit(main())
