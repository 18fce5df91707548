# SPDX-License-Identifier: Apache-2.0
"""One table of all runs of an experiment: what differs, scores, time, and how each one ended.

    python -m tools.sweep LOGROOT/EXPERIMENT              # prints, writes sweep.html there
    python -m tools.sweep LOGROOT/EXPERIMENT --out PAGE

Runs that differ by their seed alone are also shown together: mean and standard deviation of their
scores. runx drops exit codes, so this reads what the runs left behind: run.json or hparams.json,
metrics.csv, status.json; of a run that never got so far, the command line in submit_cmd.sh.
The score is mean IoU, of a classifier top-1.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.files import href
from reports.render import write_html
from reports.run_facts import MISSING, FlagTexts, aligned, read_json, settings_of, shown
from runtime.errors import UserError, wrong_input
from runtime.progress import duration_text
from settings import Parser

MARKS = ("run.json", "hparams.json", "status.json", "submit_cmd.sh", "metrics.csv")
SEED = "seed"  # the setting that makes another run of the same experiment
MAX_SECONDS = 1e11  # of durations and times: some thousand years
SILENT_SECONDS = 900.0  # a run that says it is running but wrote nothing for so long
REPORTS = ("best_images/index.html", "eval/best_images/index.html")  # the first that exists
MEASURES = {"mean_iu": "mIoU", "top1": "top-1"}  # entry of a val row: name; a run has one of them


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run directory. Scores are 0..1, None before the first validation."""

    name: str
    settings: FlagTexts  # flag -> value as text; flags a run left out may be absent
    measure: str  # name of the score, "" before the first validation
    scores: tuple[float, ...]  # of every validation, in order
    seconds: float | None
    status: str  # done, failed, interrupted, running, silent, not started, unknown
    reason: str
    report: Path | None  # its report page

    @property
    def best(self) -> float | None:
        return max(self.scores, default=None)

    @property
    def last(self) -> float | None:
        return self.scores[-1] if self.scores else None


def read_runs(experiment: Path) -> list[Run]:
    """All runs directly below `experiment`, best score first, those without one last.

    Raises UserError when the directory is missing or holds no run.
    """
    if not experiment.is_dir():
        raise UserError(f"{experiment} is no directory; name LOGROOT/EXPERIMENT")
    folders = [path for path in sorted(experiment.iterdir()) if path.is_dir()]
    runs = [read_run(path) for path in folders if any((path / mark).exists() for mark in MARKS)]
    if not runs:
        raise UserError(f"{experiment} holds no run; name LOGROOT/EXPERIMENT")
    return sorted(runs, key=lambda run: (run.best is None, -(run.best or 0.0), run.name))


def read_run(folder: Path) -> Run:
    """What one run left behind; every file may be absent, torn or of a wrong content.

    The reason names the files that are not used because of that.
    """
    damaged: list[str] = []
    status = read_json(folder / "status.json", damaged)
    signs = [path.stat().st_mtime for mark in ("logging.log", "metrics.csv", "status.json")
             if (path := folder / mark).exists()]  # fmt: skip
    last_sign = max(signs, default=0.0)
    state, reason, seconds = _state(status, last_sign, damaged)
    measure, scores = _scores(folder / "metrics.csv", damaged)
    settings = settings_of(folder, damaged)
    found = [folder / place for place in REPORTS if (folder / place).exists()]
    notes = [reason] if reason else []
    notes += [f"{name} is damaged" for name in dict.fromkeys(damaged)]
    return Run(
        name=shown(folder.name),
        settings=settings,
        measure=measure,
        scores=scores,
        seconds=seconds,
        status=state,
        reason=shown("; ".join(notes)),
        report=found[0] if found else None,
    )


def _state(
    status: dict[str, Any], last_sign: float, damaged: list[str]
) -> tuple[str, str, float | None]:
    """Status, reason and seconds from status.json; `last_sign` is when the run last wrote."""
    state, seconds = status.get("status"), _number(status.get("seconds"))
    if not isinstance(state, str):
        if status:
            damaged.append("status.json")
        if "status.json" in damaged:
            return "unknown", "", seconds
        return "not started", "no status file: still queued, or its flags were refused", seconds
    reason = status.get("reason", "")
    if not isinstance(reason, str):
        damaged.append("status.json")
        reason = ""
    if state == "running":
        began = _number(status.get("updated"))
        if began is None and status.get("updated") is not None:
            damaged.append("status.json")
        seconds = max(last_sign - (began or last_sign), 0.0)
        silence = time.time() - last_sign
        if silence > SILENT_SECONDS:
            state, reason = "silent", f"nothing written for {_duration(silence)}; killed?"
    return shown(state), reason, seconds


def _number(value: Any) -> float | None:
    """Seconds from JSON as a float, None for what no run can have lasted or written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MAX_SECONDS else None


def _scores(path: Path, damaged: list[str]) -> tuple[str, tuple[float, ...]]:
    """Name of the score, and its value in every val row; a torn row is dropped.

    Rows of a training hold learning rates. Where there are such rows, those without are of an
    evaluation of who knows which checkpoint, which earlier versions wrote to the same file.
    """
    found: list[tuple[str, float, bool]] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError:
        damaged.append(path.name)
        text = ""
    for line in text.splitlines():
        phase, *cells = line.split(",")
        row = dict(zip(cells[::2], cells[1::2], strict=False))
        if phase != "val" or "timestamp" not in row:
            continue
        try:
            key = next(key for key in MEASURES if key in row)
            score = float(row[key])
        except (StopIteration, ValueError):
            continue
        if math.isfinite(score):
            found.append((MEASURES[key], score, "lr" in row))
    is_training = any(trained for _, _, trained in found)
    kept = [(name, score) for name, score, trained in found if trained or not is_training]
    return (kept[-1][0] if kept else ""), tuple(score for _, score in kept)


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Finished runs that differ by their seed alone; `runs` share `settings` but for that."""

    settings: FlagTexts
    runs: tuple[Run, ...]

    def spread(self, last: bool = False) -> tuple[float, float | None]:
        """Mean of the best or last scores and their standard deviation, None of a single one."""
        scores = [run.scores[-1] if last else max(run.scores) for run in self.runs]
        return statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else None


def seed_groups(runs: Sequence[Run]) -> list[SeedGroup]:
    """The groups of all finished runs with a score, best mean first; none without two seeds."""
    found: dict[frozenset[tuple[str, str]], list[Run]] = {}
    for run in runs:
        if run.status == "done" and run.scores:
            others = {name: text for name, text in run.settings.items() if name != SEED}
            found.setdefault(frozenset(others.items()), []).append(run)
    groups = [SeedGroup(settings=dict(key), runs=tuple(own)) for key, own in found.items()]
    if not any(len({run.settings.get(SEED) for run in group.runs}) > 1 for group in groups):
        return []
    return sorted(groups, key=lambda group: -group.spread()[0])


def measure_of(runs: Sequence[Run]) -> str:
    """What the scores of `runs` are called; both names where segmentation and classifiers mix."""
    found = [name for name in MEASURES.values() if any(run.measure == name for run in runs)]
    return " or ".join(found) or MEASURES["mean_iu"]


def differing(runs: Sequence[Run]) -> list[str]:
    """Flags that are not the same in all runs, in the order the flags were declared.

    A run known by its command line alone says nothing about flags it left out, except that a
    switch it left out is off.
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    found = []
    for name in names:
        values = {run.settings[name] for run in runs if name in run.settings}
        left_out = any(name not in run.settings for run in runs)
        if len(values) > 1 or (left_out and values == {"true"}):
            found.append(name)
    return found


def table(runs: Sequence[Run]) -> str:
    """The runs as aligned text, one line each; below, the groups of runs by seeds."""
    names = differing(runs)
    measure = measure_of(runs)
    head = ["run", *names, f"best {measure}", f"last {measure}", "time", "status"]
    rows = [head]
    for run in runs:
        ending = f"{run.status}: {run.reason}" if run.reason else run.status
        settings = [run.settings.get(name, MISSING) for name in names]
        scores = [_percent(run.best), _percent(run.last), _duration(run.seconds)]
        rows.append([run.name, *settings, *scores, ending])
    groups = seed_groups(runs)
    if not groups:
        return aligned(rows)
    names = [name for name in names if name != SEED]
    seeds = [["n", *names, f"best {measure}", "std", f"last {measure}", "std"]]
    seeds += [_seed_cells(group, names) for group in groups]
    return f"{aligned(rows)}\n\n{aligned(seeds)}"


def _seed_cells(group: SeedGroup, names: Sequence[str]) -> list[str]:
    """Number of runs, settings, mean and deviation of the best and of the last scores."""
    scores = [_percent(value) for last in (False, True) for value in group.spread(last)]
    settings = [group.settings.get(name, MISSING) for name in names]
    return [str(len(group.runs)), *settings, *scores]


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.2f}"


def _duration(seconds: float | None) -> str:
    return MISSING if seconds is None else duration_text(seconds)


def write_sweep(path: Path, title: str, runs: Sequence[Run]) -> None:
    """The table as a page; report pages of the runs are linked relative to it."""
    names = differing(runs)
    best = next((run.best for run in runs if run.best is not None), None)
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    measure = measure_of(runs)
    figures = [] if best is None else [{"label": f"best {measure}", "value": f"{100 * best:.2f} %"}]
    figures.append({"label": "runs", "value": str(len(runs))})
    figures += [{"label": status, "value": str(count)} for status, count in sorted(counts.items())]
    write_html(
        path,
        "sweep.html.j2",
        title=title,
        subtitle="All runs of the experiment; click a heading to sort",
        figures=figures,
        has_best=best is not None,
        names=names,
        measure=measure,
        rows=[_row(run, names, path.parent) for run in runs],
        seeds=_seed_section(runs, [name for name in names if name != SEED]),
    )


def _seed_section(runs: Sequence[Run], names: Sequence[str]) -> dict[str, Any]:
    """The table of the groups of runs by seeds; no rows without any."""
    rows = [
        {"cells": _seed_cells(group, names), "runs": ", ".join(run.name for run in group.runs)}
        for group in seed_groups(runs)
    ]
    return {"names": names, "rows": rows}


def _row(run: Run, names: Sequence[str], base: Path) -> Mapping[str, Any]:
    numbers = (
        (_percent(run.best), run.best),
        (_percent(run.last), run.last),
        (_duration(run.seconds), run.seconds),
    )
    link = "" if run.report is None else href(os.path.relpath(run.report, base))
    return {
        "name": run.name,
        "link": link,
        "settings": [run.settings.get(name, MISSING) for name in names],
        "numbers": [
            {"text": text, "value": "" if value is None else repr(value)} for text, value in numbers
        ],
        "status": run.status,
        "good": run.status in ("done", "running"),
        "reason": run.reason,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write the page; exit code 2 when there is nothing to compare."""
    parser = Parser(prog="python -m tools.sweep", description="compare runs", allow_abbrev=False)
    parser.add_argument("experiment", type=Path, help="LOGROOT/EXPERIMENT, the folder of its runs")
    parser.add_argument("--out", type=Path, help="the page; default sweep.html in the experiment")
    try:
        args = parser.parse_args(argv)
        experiment = args.experiment.resolve()
        page = args.out.resolve() if args.out else experiment / "sweep.html"
        runs = read_runs(experiment)
        print(table(runs))
        write_sweep(page, experiment.name, runs)
    except OSError as error:
        return wrong_input(f"{error.filename}: {error.strerror}; --out PAGE writes elsewhere")
    except UserError as error:
        return wrong_input(error)
    print(f"page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
