# SPDX-License-Identifier: Apache-2.0
"""The page of token hierarchies: several tokens of one image, in one file that works offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.files import jpeg_link
from reports.render import write_html
from reports.token_hierarchy import Grid, Picture

LONGEST, WHOLE = 1000, 800  # pixels of the image on the page, and of the coloured ones
ZOOMED = 400  # approximate pixels of an enlarged part
MARGIN = 0.6  # around the window of a token, as a share of its side


@dataclass(frozen=True, kw_only=True)
class View:
    """One image of a token. `largest`: the largest share that a drawn token has; None: not a
    share."""

    name: str  # of the file, without its ending
    title: str
    picture: Picture
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class TokenViews:
    """All images of a token; `box`: first row, first column and side of its window, pixels."""

    token: Grid
    box: tuple[int, int, int]
    down: list[View]
    up: list[View]
    child: str  # whose parents `up` shows, in words


def zoom(picture: Picture, box: tuple[int, int, int]) -> Picture:
    """The part around `box`, every pixel drawn as a square, about ZOOMED pixels wide in total."""
    row, column, side = box
    margin = round(MARGIN * side)
    rows = slice(max(row - margin, 0), row + side + margin)
    columns = slice(max(column - margin, 0), column + side + margin)
    part = picture[rows, columns]
    factor = max(ZOOMED // max(part.shape[:2]), 1)
    enlarged: Picture = part.repeat(factor, axis=0).repeat(factor, axis=1)
    return enlarged


def write_attention_page(
    path: Path,
    *,
    title: str,
    image: Picture,
    tokens: Sequence[TokenViews],
    top: int,
    grid: Grid,
    facts: Mapping[str, Any],
) -> None:
    """Write the page of `tokens` of stage `top`, whose grid is `grid`, over `image`."""
    write_html(
        path,
        "attention.html.j2",
        title=title,
        subtitle=f"Top-down attention of {len(tokens)} token{'s'[: len(tokens) != 1]} of stage "
        f"{top}, which is {grid[0]} rows by {grid[1]} columns here",
        image=jpeg_link(image, LONGEST),
        size={"height": image.shape[0], "width": image.shape[1]},
        top=top,
        marks=[_mark(number, each) for number, each in enumerate(tokens, 1)],
        tokens=[_section(number, each) for number, each in enumerate(tokens, 1)],
        facts=[(key, str(value)) for key, value in facts.items()],
    )


def _mark(number: int, views: TokenViews) -> dict[str, Any]:
    row, column, side = views.box
    return {"number": number, "x": column, "y": row, "side": side}


def _section(number: int, views: TokenViews) -> dict[str, Any]:
    return {
        "number": number,
        "row": views.token[0],
        "column": views.token[1],
        "child": views.child,
        "groups": [
            {"kind": kind, "figures": [_figure(each, views.box) for each in group]}
            for kind, group in (("down", views.down), ("up", views.up))
        ],
    }


def _figure(view: View, box: tuple[int, int, int]) -> dict[str, Any]:
    return {
        "title": view.title,
        "largest": "" if view.largest is None else f"{100 * view.largest:.1f} %",
        "near": jpeg_link(zoom(view.picture, box), 2 * ZOOMED),
        "whole": jpeg_link(view.picture, WHOLE),
    }
