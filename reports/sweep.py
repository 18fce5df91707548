# SPDX-License-Identifier: Apache-2.0
"""One table of all runs of an experiment: what differs, scores, time, and how each one ended.

    python -m reports.sweep LOGROOT/EXPERIMENT              # prints, writes sweep.html there
    python -m reports.sweep LOGROOT/EXPERIMENT --out PAGE

runx drops exit codes, so this reads what the runs left behind: run.json or hparams.json,
metrics.csv, status.json; of a run that never got so far, the command line in submit_cmd.sh.
The score is mean IoU, of a classifier top-1.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from config import UserError, wrong_input
from flags import Parser
from reports.render import write_html

# Entries that name a place or a machine, not an experiment.
SAME_EXPERIMENT = {"result_dir", "local_rank", "global_rank", "logdir", "command", "resume"}
MARKS = ("run.json", "hparams.json", "status.json", "submit_cmd.sh", "metrics.csv")
SILENT_SECONDS = 900.0  # a run that says it is running but wrote nothing for so long
REPORT = "best_images/index.html"
MISSING = "–"
MEASURES = {"mean_iu": "mIoU", "top1": "top-1"}  # entry of a val row: name; a run has one of them

Settings = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run directory. Scores are 0..1, None before the first validation."""

    name: str
    settings: Settings  # flag -> value as text; flags a run left out may be absent
    measure: str  # name of the score, "" before the first validation
    scores: tuple[float, ...]  # of every validation, in order
    seconds: float | None
    status: str  # done, failed, interrupted, running, silent, not started
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
    """What one run left behind; every file may be absent or torn."""
    status = _read_json(folder / "status.json")
    state = str(status.get("status", "not started"))
    signs = [path.stat().st_mtime for mark in ("logging.log", "metrics.csv", "status.json")
             if (path := folder / mark).exists()]  # fmt: skip
    last_sign = max(signs, default=0.0)
    seconds = status.get("seconds")
    if state == "running":
        began = float(status.get("updated") or last_sign)
        seconds = max(last_sign - began, 0.0)
        if time.time() - last_sign > SILENT_SECONDS:
            state = "silent"
    reason = str(status.get("reason", ""))
    if state == "silent":
        reason = f"nothing written for {_duration(time.time() - last_sign)}; killed?"
    if state == "not started":
        reason = "no status file: still queued, or its flags were refused"
    report = folder / REPORT
    measure, scores = _scores(folder / "metrics.csv")
    return Run(
        name=folder.name,
        settings=_settings(folder),
        measure=measure,
        scores=scores,
        seconds=None if seconds is None else float(seconds),
        status=state,
        reason=reason,
        report=report if report.exists() else None,
    )


def _read_json(path: Path) -> dict[str, Any]:
    """The mapping in a file; {} when it is absent or torn."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _settings(folder: Path) -> Settings:
    """Flag -> text; every `--set KEY=VALUE` is an entry of its own."""
    flags = _read_json(folder / "run.json").get("flags") or _read_json(folder / "hparams.json")
    if not flags or not isinstance(flags, dict):
        flags = _command_flags(folder / "submit_cmd.sh")
    settings = {}
    for name, value in flags.items():
        if name == "set":
            pairs = (str(item).partition("=") for item in value or [])
            settings.update({key: text for key, _, text in pairs})
        elif name not in SAME_EXPERIMENT:
            settings[name] = _text(value)
    return settings


def _command_flags(path: Path) -> dict[str, Any]:
    """The flags of a runx command line; {} when there is none."""
    try:
        words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    except (OSError, ValueError):
        return {}
    if "--command" in words[:-1]:  # submitted to a farm: the command is one argument
        words = shlex.split(words[words.index("--command") + 1])
    flags: dict[str, Any] = {}
    program = next((at for at, word in enumerate(words) if word.endswith(".py")), len(words))
    rest = words[program + 1 :]
    for position, word in enumerate(rest):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        following = rest[position + 1 : position + 2]
        if not equals and following and not following[0].startswith("--"):
            value = following[0]
        elif not equals:
            value = "true"
        if name == "set":
            flags.setdefault("set", []).append(value)
        else:
            flags[name] = value
    return flags


def _text(value: Any) -> str:
    """A value as one would type it, so that files and command lines compare equal."""
    if value is None or value is False:
        return MISSING
    if value is True:
        return "true"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return str(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _scores(path: Path) -> tuple[str, tuple[float, ...]]:
    """Name of the score, and its value in every val row; a torn last row is dropped."""
    measure, scores = "", []
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
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
            measure = MEASURES[key]
            scores.append(score)
    return measure, tuple(scores)


def measure_of(runs: Sequence[Run]) -> str:
    """What the scores of `runs` are called; both names where segmentation and classifiers mix."""
    found = [name for name in MEASURES.values() if any(run.measure == name for run in runs)]
    return " or ".join(found) or MEASURES["mean_iu"]


def differing(runs: Sequence[Run]) -> list[str]:
    """Settings that are not the same in all runs, in the order the flags were declared.

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
    """The runs as aligned text, one line each."""
    names = differing(runs)
    measure = measure_of(runs)
    head = ["run", *names, f"best {measure}", f"last {measure}", "time", "status"]
    rows = [head]
    for run in runs:
        ending = f"{run.status}: {run.reason}" if run.reason else run.status
        settings = [run.settings.get(name, MISSING) for name in names]
        scores = [_percent(run.best), _percent(run.last), _duration(run.seconds)]
        rows.append([run.name, *settings, *scores, ending])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.2f}"


def _duration(seconds: float | None) -> str:
    """Seconds as 7 s, 3:05 min or 12:30 h."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


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
    )


def _row(run: Run, names: Sequence[str], base: Path) -> Mapping[str, Any]:
    numbers = (
        (_percent(run.best), run.best),
        (_percent(run.last), run.last),
        (_duration(run.seconds), run.seconds),
    )
    link = "" if run.report is None else quote(os.path.relpath(run.report, base))
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
    parser = Parser(prog="python -m reports.sweep", description="compare runs", allow_abbrev=False)
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
