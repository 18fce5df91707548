# SPDX-License-Identifier: Apache-2.0
"""A training as one page: curves, classes, previews, settings.

    python -m reports.run RUN                  # writes RUN/run.html
    python -m reports.run RUN --watch          # and again every 10 s, until the run ends
    python -m reports.run RUN --png run.png    # the curves as a picture, too

RUN is a --result_dir whose --tracker has tensorboard. The page needs no other file.
"""

from __future__ import annotations

import argparse
import base64
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.curves import Chart, chart, picture_of, svg_of, text_of
from reports.events import PATTERN, History, Points, read_history
from reports.render import write_html
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.files import read_mapping, write_atomic

PAGE = "run.html"
RATE, LOSS = "lr", "loss"
MACHINE = {"images_per_s": "Images per second", "memory_gib": "Memory, GiB",
           "skipped": "Steps skipped"}  # fmt: skip
SCORES = {"mean_iu": "mean IoU", "acc": "pixel accuracy", "acc_cls": "mean class accuracy",
          "top1": "top-1 accuracy", "top5": "top-5 accuracy"}  # fmt: skip
MAIN_SCORES = ("mean_iu", "top1")  # that decide which checkpoint is best
MAX_PREVIEWS = 6


def below(numbers: Mapping[str, Points], kind: str) -> dict[str, Points]:
    """The numbers of a kind, `train/loss` as `loss`."""
    return {
        name.removeprefix(f"{kind}/"): points
        for name, points in numbers.items()
        if name.startswith(f"{kind}/")
    }


def charts_of(history: History, unit: str) -> list[Chart]:
    """Every curve of a run, grouped by what it tells; `unit`: what validations are counted in."""
    train, val = below(history.numbers, "train"), below(history.numbers, "val")
    classes = below(history.numbers, "iou")
    rates = {name: points for name, points in train.items() if name.split("_")[0] == RATE}
    terms = {name: points for name, points in train.items() if name not in {*rates, *MACHINE}}
    scores = {
        SCORES.get(name, name): points
        for name, points in val.items()
        if name != LOSS and name.split("_")[0] != RATE
    }
    over = f"{unit}s"
    found = [
        chart("Scores, %", over, scores, "%", 100),
        chart("Training loss", "steps", terms),
        chart("Validation loss", over, {LOSS: val.get(LOSS, {})}),
        chart("Classes, IoU %", over, classes, "%", 100, _hues(list(classes))),
        chart("Learning rate", "steps", rates),
        *(chart(title, "steps", {name: train.get(name, {})}) for name, title in MACHINE.items()),
    ]
    return [each for each in found if each is not None]


def _hues(names: Sequence[str]) -> dict[str, str]:
    """As many colours as there are classes, alternately lighter and darker."""
    return {
        name: f"hsl({round(360 * number / len(names))}, 70%, {38 + 14 * (number % 2)}%)"
        for number, name in enumerate(names)
    }


def class_rows(classes: Mapping[str, Points]) -> list[dict[str, Any]]:
    """Last and best score of every class, the worst class first."""
    rows = []
    for name, points in classes.items():
        last, best = points[max(points)], max(points, key=lambda step: points[step])
        numbers = [(f"{100 * last:.2f}", last), (f"{100 * points[best]:.2f}", points[best])]
        rows.append({"name": name, "numbers": [*numbers, (str(best), best)]})
    return sorted(rows, key=lambda row: float(row["numbers"][0][1]))


def figures_of(history: History, status: Mapping[str, Any], unit: str) -> list[dict[str, str]]:
    """The numbers at the top."""
    train, val = below(history.numbers, "train"), below(history.numbers, "val")
    found = [("status", str(status.get("status", "unknown")))]
    main = next((name for name in MAIN_SCORES if name in val), "")
    scores = {step: score for step, score in val.get(main, {}).items() if math.isfinite(score)}
    if scores:
        for word, step in (("best", max(scores, key=lambda each: scores[each])),
                           ("last", max(scores))):  # fmt: skip
            label = f"{word} {SCORES[main]}, {unit} {step}"
            found.append((label, f"{100 * scores[step]:.2f} %"))
    for key in ("epoch", "iteration"):
        if isinstance(status.get(key), int):
            found.append(({"iteration": "steps"}.get(key, key), f"{status[key]:,}"))
    for key, label in (("images_per_s", "images per second"), ("memory_gib", "GiB of memory")):
        points = train.get(key)
        if points:
            found.append((label, text_of(points[max(points)])))
    if isinstance(status.get("seconds"), int | float):
        minutes = status["seconds"] / 60
        found.append(("minutes since the last start", f"{minutes:.1f}"))
    return [{"label": label, "value": value} for label, value in found]


def _part(facts: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A group of a file of the run; empty where it has none."""
    found = facts.get(key)
    return found if isinstance(found, dict) else {}


def tables_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the user set, all settings, and the environment."""
    flags, versions = _part(facts, "flags"), _part(facts, "versions")
    given = [name for name in facts.get("given") or [] if name in flags]
    environment = {**versions, "commit": facts.get("git"), "processes": facts.get("world_size")}
    tables = [
        ("Settings that were given", [(f"--{name}", _shown(flags[name])) for name in given], True),
        ("All settings", [(f"--{name}", _shown(value)) for name, value in flags.items()], False),
        ("Environment", [(name, _shown(value)) for name, value in environment.items()], False),
    ]
    return [{"title": title, "rows": rows, "open": is_open} for title, rows, is_open in tables]


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None or value == "" else str(value)


def _subtitle(facts: Mapping[str, Any]) -> str:
    flags = _part(facts, "flags")
    return " ".join(str(flags[key]) for key in ("arch", "dataset") if key in flags)


def _notes(run: Path, history: History, facts: Mapping[str, Any], status: Any) -> list[str]:
    notes = [f"{name} ends inside a record; what follows is missing" for name in history.broken]
    if status.get("status") == "running":  # the last record may be half written
        notes = []
    for name, content in (("run.json", facts), ("status.json", status)):
        if not content:
            notes.append(f"{run / name} is missing or damaged")
    if status.get("reason"):
        notes.append(str(status["reason"]))
    return notes


def write_run_page(run: Path, page: Path, seconds: int = 0) -> tuple[str, list[Chart]]:
    """Write the page, which loads itself anew after `seconds`; status and curves of the run.

    Raises UserError for a folder without curves.
    """
    history = read_history(run)
    if not history.files:
        raise UserError(
            f"{run} holds no {PATTERN}: it is no --result_dir, or its --tracker had no tensorboard"
        )
    facts, status = read_mapping(run / "run.json"), read_mapping(run / "status.json")
    by_steps = bool(_part(facts, "flags").get("val_iters"))
    unit = "step" if by_steps else "epoch"
    charts = charts_of(history, unit)
    previews = sorted(
        (name, step, png) for name, (step, png) in history.pictures.items()
        if name.startswith("val/")
    )[:MAX_PREVIEWS]  # fmt: skip
    write_html(
        page,
        "run.html.j2",
        title=run.resolve().name,
        subtitle=_subtitle(facts),
        figures=figures_of(history, status, unit),
        notes=_notes(run, history, facts, status),
        plots=[svg_of(plot) for plot in charts],
        classes=class_rows(below(history.numbers, "iou")),
        unit=unit,
        previews=[
            {"name": name.removeprefix("val/"), "step": step, "png": base64.b64encode(png).decode()}
            for name, step, png in previews
        ],
        tables=tables_of(facts),
        seconds=seconds if status.get("status") == "running" else 0,
    )
    return str(status.get("status", "unknown")), charts


def write_picture(path: Path, charts: Sequence[Chart]) -> None:
    """Write the curves as a PNG."""
    picture = picture_of(charts)
    write_atomic(path, lambda file: picture.save(file, "PNG"))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page, once or while the run goes on; 0 done, 2 wrong input."""
    parser = argparse.ArgumentParser(prog="reports.run", description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="--result_dir of a training")
    parser.add_argument("--out", type=Path, help="the page; default RUN/run.html")
    parser.add_argument("--png", type=Path, help="write the curves as a picture, too")
    parser.add_argument(
        "--watch", type=int, nargs="?", const=10, metavar="SECONDS",
        help="write it again every so many seconds (10) while the run goes on",
    )  # fmt: skip
    given = vars(parser.parse_args(argv))
    streams.tolerate()
    page, seconds = given["out"] or given["run"] / PAGE, given["watch"] or 0
    try:
        if given["watch"] is not None and seconds < 1:
            raise UserError(f"--watch {given['watch']}: at least 1 second is wanted")
        while True:
            status, charts = write_run_page(given["run"], page, seconds)
            if given["png"]:
                write_picture(given["png"], charts)
            if not seconds or status != "running":
                break
            time.sleep(seconds)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        return wrong_input(f"{error.filename}: {error.strerror}")
    except UserError as error:
        return wrong_input(error)
    print(f"page: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
