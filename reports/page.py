# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation: one HTML page that works offline, next to the dumped images.

    write_page(out / "index.html", title="...", spec=spec, summary=results, rows=sink.rows, run={})

The page holds its style, script and data; only the images are files, by relative links.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from datasets.spec import DatasetSpec
from metrics.bands import BANDS
from reports.files import href, png_link
from reports.height_gates import KIND, block_of, gate_section
from reports.image_dump import COMPOSITE
from reports.render import write_html
from reports.stored_images import ImageRow

__all__ = ["ImageRow", "write_page"]

VIEWS = {  # kind of file -> name and help of the button, in their order
    "input": ("Input", "the image"),
    "gt": ("Ground truth", "the label, in the colours of the classes"),
    "prediction": ("Prediction", "the predicted classes"),
    COMPOSITE: ("Composite", "prediction over the image"),
    "err_mask": ("Errors", "white where the prediction is wrong"),
    "prob_mask": ("Confidence", "white where the network is sure"),
}
SCALED_VIEWS = {
    "attn": ("Attention", "white where the network trusts this scale, at"),
    "pred": ("Prediction", "the classes predicted at one scale only,"),
}
METRICS = (
    ("mean_iu", "mean IoU"),
    ("acc", "pixel accuracy"),
    ("acc_cls", "mean class accuracy"),
    ("fwavacc", "frequency-weighted IoU"),
    ("mean_dice", "mean Dice"),
    ("boundary_f", "mean boundary F"),
    ("modified_f", "boundary F of any two classes"),
)
Column = tuple[str, str, str, float, int]
CLASS_COLUMNS: tuple[Column, ...] = (  # key of results.json, heading, help, factor, decimals
    ("iou", "IoU %", "intersection over union", 100, 2),
    ("precision", "Precision %", "share of predicted pixels that are right", 100, 2),
    ("recall", "Recall %", "share of labelled pixels that are found", 100, 2),
    ("dice", "Dice %", "twice the intersection over the sum of both areas", 100, 2),
    ("fp_over_tp", "FP / TP", "false positives divided by true positives", 1, 2),
    ("fn_over_tp", "FN / TP", "missed pixels divided by true positives", 1, 2),
    ("boundary_f", "Boundary F %", "agreement of the outlines, mean over the images", 100, 2),
    ("label_share", "Label %", "share of the labelled pixels", 100, 2),
)
NO_SCORES = ("loss",)  # of the metrics
NO_COLUMNS = ("id", "name", "color", "absent", "cells")  # of a class
RIGHT_COLOR, WRONG_COLOR = (16, 150, 142), (234, 88, 12)  # legible on light and dark ground
MAX_LABELLED = 36  # classes with names beside the matrix
MATRIX_WIDTH, MARGIN = 420, 108  # units of the drawing
NUM_MISTAKES = 8


def write_page(
    path: Path,
    *,
    title: str,
    spec: DatasetSpec,
    summary: Mapping[str, Any],
    rows: Sequence[ImageRow],
    run: Mapping[str, Any],
    image_root: Path | None = None,
    links: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the report of one evaluation.

    `summary` is the content of results.json; without metrics the page shows only the images. `rows`
    are the dumped images, their files relative to `image_root` (default: the directory of the
    page). `run` holds facts that are shown as a table: flags, versions, hardware. `links` are other
    pages, text -> file relative to this page.
    """
    path = Path(path)
    link = os.path.relpath(image_root or path.parent, path.parent)
    cards = [_card(row, spec, "" if link == "." else link + "/") for row in _worst_first(rows)]
    views = _views(rows)
    first_view = next((kind for kind in (COMPOSITE, "input") if kind in views), "")
    for card in cards:
        card["view"] = first_view if first_view in card["files"] else next(iter(card["files"]), "")
    write_html(
        path,
        "page.html.j2",
        title=title,
        subtitle=_subtitle(summary),
        links=[{"file": href(file), "text": text} for text, file in links.items()],
        figures=_figures(summary),
        unreadable=summary["unreadable"],
        cards=[card for card in cards if card["files"]],
        views=[{"kind": kind, "name": name, "help": text} for kind, (name, text) in views.items()],
        first_view=first_view,
        gates=gate_section(rows),
        scored=any(row.mean_iu is not None for row in rows),
        legend=[
            {"name": name, "color": _css(color)}
            for name, color in zip(spec.class_names, spec.palette, strict=True)
        ],
        bands=_bands(summary),
        tables=_tables(summary, run),
        data=_script_data(spec, summary, cards),
        **_class_section(spec, summary),
    )


def _css(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _text(value: float | None, factor: float = 100, decimals: int = 2, missing: str = "–") -> str:
    return missing if value is None else f"{factor * value:.{decimals}f}"


def _worst_first(rows: Sequence[ImageRow]) -> list[ImageRow]:
    """Lowest mean IoU first, images without a score last."""
    return sorted(rows, key=lambda row: (2.0 if row.mean_iu is None else row.mean_iu, row.index))


def _views(rows: Sequence[ImageRow]) -> dict[str, tuple[str, str]]:
    """Kind -> (name, help) of every kind of file that some image has."""
    present = {kind: None for row in rows for kind in row.files}
    views = {kind: text for kind, text in VIEWS.items() if kind in present}
    for kind in sorted(present, key=lambda kind: (kind[:4], _scale(kind))):
        if kind.startswith(KIND):
            text = "how open the gates of a HANet block are: image, mean per row, all channels"
            views[kind] = (f"Gates {block_of(kind)}", text)
        elif kind not in VIEWS:
            name, text = SCALED_VIEWS.get(kind.partition("_")[0], (kind, ""))
            views[kind] = (f"{name} {_scale(kind)}×", f"{text} {_scale(kind)}×")
    return views


def _scale(kind: str) -> str:
    """attn_05x -> 0.5, pred_025x -> 0.25."""
    digits = kind.rpartition("_")[2].removesuffix("x")
    return f"{digits[:1]}.{digits[1:]}" if digits.isdecimal() else digits


def _card(row: ImageRow, spec: DatasetSpec, prefix: str) -> dict[str, Any]:
    names = spec.class_names
    mistakes = [f"{names[g]} → {names[p]} {100 * share:.1f} %" for g, p, share in row.mistakes]
    return {
        "name": row.name,
        "index": row.index,
        "size": row.size,
        "mean_iu": row.mean_iu,
        "percent": _text(row.mean_iu, decimals=1, missing=""),
        "mistakes": ", ".join(mistakes),
        "files": {kind: href(prefix + file) for kind, file in row.files.items()},
    }


def _subtitle(summary: Mapping[str, Any]) -> str:
    protocol = summary["protocol"]
    facts = [protocol.get("arch"), protocol.get("dataset") or summary["dataset"]]
    return " · ".join(str(fact) for fact in [*facts, protocol.get("split")] if fact)


def _figures(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers at the top of the page."""
    metrics, seconds = summary["metrics"], summary["seconds"]
    known = dict(METRICS)
    others = {key: key.replace("_", " ") for key in metrics if key not in (*known, *NO_SCORES)}
    figures: list[dict[str, Any]] = [
        {"label": label, "value": f"{100 * metrics[key]:.2f} %"}
        for key, label in (known | others).items()
        if metrics[key] is not None
    ]
    if metrics["loss"] is not None:
        figures.append({"label": "validation loss", "value": f"{metrics['loss']:.4f}"})
    images = summary["counts"]["images"]
    figures.append({"label": "images", "value": str(images)})
    if images and seconds:
        figures.append({"label": "images per second", "value": f"{images / seconds:.3g}"})
    return figures


def _bands(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Table of the height bands: headings, and one row per band in percent."""
    if summary["bands"] is None:
        return None
    heads = [(key, label) for key, label in METRICS if key in summary["bands"]["upper"]]
    rows = [
        (title, [_text(summary["bands"][band][key]) for key, _ in heads])
        for band, title in BANDS.items()
    ]
    return {"heads": [label for _, label in heads], "rows": rows}


def _tables(summary: Mapping[str, Any], run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of facts below the images; the second does not repeat what the first says."""
    protocol = summary["protocol"]
    rest = {key: value for key, value in run.items() if key not in protocol}
    tables = (
        ("How it was measured", protocol),
        ("Boundary F by tolerance", _by_tolerance(summary)),
        ("Run", rest),
    )
    return [
        {"title": title, "rows": [(key, _fact(value)) for key, value in facts.items()]}
        for title, facts in tables
        if facts
    ]


def _by_tolerance(summary: Mapping[str, Any]) -> dict[str, str]:
    """Mean F in % at every tolerance, if there are several."""
    boundary = summary["boundary"]
    if boundary is None or len(boundary["thresholds"]) == 1:
        return {}
    pairs = zip(boundary["thresholds"], boundary["mean_f"], strict=True)
    return {tolerance(threshold): _text(mean) for threshold, mean in pairs}


def tolerance(threshold: float) -> str:
    """A tolerance in words: pixels, or a share of the diagonal."""
    return f"{threshold:g} px" if threshold >= 1 else f"{threshold:g} of the diagonal"


def _fact(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _script_data(
    spec: DatasetSpec, summary: Mapping[str, Any], cards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    wanted = ("name", "index", "mean_iu", "percent", "files")
    return {
        "classes": list(spec.class_names),
        "confusion": summary["confusion"],
        "images": [{key: card[key] for key in wanted} for card in cards if card["files"]],
    }


def _class_section(spec: DatasetSpec, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Bars, matrix and table of the classes; nothing without metrics."""
    if summary["classes"] is None:
        return {"classes": []}
    classes = [
        {**row, "color": _css(color)}
        for row, color in zip(summary["classes"], spec.palette, strict=True)
    ]
    columns = _columns(classes)
    confusion = np.asarray(summary["confusion"], np.float64)
    totals = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.zeros_like(confusion), where=totals > 0)
    return {
        "classes": [{**row, "cells": _cells(row, columns)} for row in classes],
        "class_heads": [
            {"name": "Id", "help": "train id"},
            {"name": "Class", "help": "name"},
            *({"name": name, "help": text} for _, name, text, _, _ in columns),
        ],
        "bars": _bars(classes),
        "mean_percent": _text(summary["metrics"]["mean_iu"], missing="0"),
        "matrix": {
            "cell": round(MATRIX_WIDTH / len(classes), 3),
            "margin": MARGIN if len(classes) <= MAX_LABELLED else 1,
            "labels": len(classes) <= MAX_LABELLED,
            "picture": _heat_map(shares),
        },
        "mistakes": _largest_mistakes(shares, classes),
    }


def _columns(classes: Sequence[Mapping[str, Any]]) -> list[Column]:
    """What is known of the classes; a score that has no heading here stands under its name."""
    known = [*(column[0] for column in CLASS_COLUMNS), *NO_COLUMNS]
    others: list[Column] = [
        (key, f"{key.replace('_', ' ')} %", "", 100, 2) for key in classes[0] if key not in known
    ]
    every = (*CLASS_COLUMNS, *others)
    return [column for column in every if any(row[column[0]] is not None for row in classes)]


def _cells(row: Mapping[str, Any], columns: Sequence[Column]) -> list[dict[str, str]]:
    """The cells of the class table: what is shown, and the sort key."""
    missing = "absent" if row["absent"] else "–"
    return [
        {
            "text": _text(row[key], factor, decimals, missing if key == "iou" else "–"),
            "value": "" if row[key] is None else repr(row[key]),
        }
        for key, _, _, factor, decimals in columns
    ]


def _bars(classes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Best class first, absent ones last."""
    ordered = sorted(classes, key=lambda row: -1.0 if row["iou"] is None else row["iou"])
    return [
        {
            "name": row["name"],
            "color": row["color"],
            "absent": row["absent"],
            "width": _text(row["iou"], missing="0"),
            "iou": _text(row["iou"], decimals=1, missing="absent"),
        }
        for row in reversed(ordered)
    ]


def _heat_map(shares: np.ndarray[Any, Any]) -> str:
    """The matrix as an image of one pixel per cell: a data link, opacity by square root."""
    count = len(shares)
    pixels = np.empty((count, count, 4), np.uint8)
    pixels[:, :, :3] = WRONG_COLOR
    pixels[np.arange(count), np.arange(count), :3] = RIGHT_COLOR
    pixels[:, :, 3] = np.rint(255 * np.sqrt(shares))
    return png_link(pixels)


def _largest_mistakes(
    shares: np.ndarray[Any, Any], classes: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """The pairs of classes that lose the largest share of a ground truth."""
    wrong = shares - np.diag(np.diag(shares))
    order = np.argsort(-wrong, axis=None, kind="stable")[:NUM_MISTAKES]
    pairs = [divmod(int(place), len(classes)) for place in order]
    return [
        {
            "from_name": classes[g]["name"],
            "from_color": classes[g]["color"],
            "to_name": classes[p]["name"],
            "to_color": classes[p]["color"],
            "percent": f"{100 * wrong[g, p]:.1f}",
        }
        for g, p in pairs
        if wrong[g, p] > 0
    ]
