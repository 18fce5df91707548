# SPDX-License-Identifier: Apache-2.0
"""Curves over steps or epochs: one description for the page (SVG) and for a picture (PNG)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw, ImageFont

MAX_POINTS = 400  # of a curve; more are averaged
SIZE = (560, 240)  # of a drawing, in its units
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 26
NUM_TICKS = 5
# Distinguishable on light and dark ground, by hue and by lightness.
COLORS = ("#0b7a75", "#d97706", "#7c3aed", "#dc2626", "#2563eb", "#65a30d", "#db2777", "#78716c")
INK, FRAME, GROUND = "#191c22", "#dfe3e9", "#ffffff"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A named line through (x, y) in rising x; gaps where y is not finite."""

    name: str
    points: Sequence[tuple[float, float]]
    color: str

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves over one axis. `over`: what x counts. `unit`: of y, behind its values."""

    title: str
    over: str
    curves: Sequence[Curve]
    unit: str = ""

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, lowest and highest value; y widened a little, and never empty."""
        xs = [x for curve in self.curves for x, _ in curve.points]
        ys = [y for curve in self.curves for _, y in curve.points if math.isfinite(y)] or [0.0]
        low, high = min(ys), max(ys)
        room = (high - low) * 0.04 or abs(high) * 0.05 or 1.0
        low_edge = 0.0 if 0 <= low < room * 3 else low - room
        return min(xs), max(max(xs), min(xs) + 1), low_edge, high + room


def chart(
    title: str,
    over: str,
    numbers: Mapping[str, Mapping[int, float]],
    unit: str = "",
    factor: float = 1,
    colors: Mapping[str, str] | None = None,
) -> Chart | None:
    """Curves of `numbers`, name -> step -> value, times `factor`; None without any point."""
    curves = []
    for number, (name, points) in enumerate(numbers.items()):
        if points:
            color = (colors or {}).get(name) or COLORS[number % len(COLORS)]
            values = [(float(step), factor * points[step]) for step in sorted(points)]
            curves.append(Curve(name=name, points=thinned(values), color=color))
    return Chart(title=title, over=over, curves=curves, unit=unit) if curves else None


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MAX_POINTS of them: means of neighbours; the last one stays as it is."""
    if len(points) <= MAX_POINTS:
        return list(points)
    width = -(-len(points) // (MAX_POINTS - 1))
    found = []
    for first in range(0, len(points) - 1, width):
        part = points[first : min(first + width, len(points) - 1)]
        known = [y for _, y in part if math.isfinite(y)]
        found.append((part[-1][0], sum(known) / len(known) if known else math.nan))
    return [*found, points[-1]]


def ticks(low: float, high: float) -> list[float]:
    """About NUM_TICKS round numbers from `low` to `high`."""
    rough = (high - low) / NUM_TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def text_of(value: float) -> str:
    """A value as an axis shows it."""
    if not math.isfinite(value):
        return "none"
    return f"{value:,.0f}" if abs(value) >= 10000 else f"{value:.4g}"


def lines_of(plot: Chart, size: tuple[int, int] = SIZE) -> list[list[list[tuple[float, float]]]]:
    """Of each curve its unbroken pieces, in the units of a drawing of `size`."""
    left, right, low, high = plot.bounds()
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM
    found = []
    for curve in plot.curves:
        pieces: list[list[tuple[float, float]]] = [[]]
        for x, y in curve.points:
            if math.isfinite(y):
                place_x = LEFT + width * (x - left) / (right - left)
                pieces[-1].append((place_x, TOP + height * (high - y) / (high - low)))
            elif pieces[-1]:
                pieces.append([])
        found.append([piece for piece in pieces if piece])
    return found


def axes_of(
    plot: Chart, size: tuple[int, int] = SIZE
) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Places and texts of the ticks: along x, and along y."""
    left, right, low, high = plot.bounds()
    width, height = size[0] - LEFT - RIGHT, size[1] - TOP - BOTTOM
    along_x = [tick for tick in ticks(left, right) if tick == round(tick)]
    return (
        [(LEFT + width * (tick - left) / (right - left), text_of(tick)) for tick in along_x],
        [(TOP + height * (high - tick) / (high - low), text_of(tick)) for tick in ticks(low, high)],
    )


def svg_of(plot: Chart) -> dict[str, Any]:
    """What the template of a chart needs."""
    along_x, along_y = axes_of(plot)
    curves = []
    for curve, pieces in zip(plot.curves, lines_of(plot), strict=True):
        texts = [" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in pieces]
        dots = [piece[0] for piece in pieces if len(piece) == 1]
        value = f"{text_of(curve.last)}{plot.unit}"
        curves.append({"name": curve.name, "color": curve.color, "lines": texts,
                       "dots": dots, "value": value})  # fmt: skip
    return {
        "title": plot.title, "over": plot.over, "curves": curves, "along_x": along_x,
        "along_y": along_y, "width": SIZE[0], "height": SIZE[1], "left": LEFT,
        "right": SIZE[0] - RIGHT, "top": TOP, "bottom": SIZE[1] - BOTTOM,
    }  # fmt: skip


def picture_of(charts: Sequence[Chart], columns: int = 2) -> Image.Image:
    """All charts below each other, `columns` side by side, twice as large as in a page."""
    scale, head, row_height = 2, 60, 2 * (SIZE[1] + 30)
    font = ImageFont.load_default(22)
    rows = -(-len(charts) // columns)
    legend = max((len(plot.curves) for plot in charts), default=0)
    legend_height = 30 * -(-min(legend, 24) // 3)
    cell = (scale * SIZE[0], row_height + head + legend_height)
    picture = Image.new("RGB", (columns * cell[0], max(rows, 1) * cell[1]), GROUND)
    draw = ImageDraw.Draw(picture)
    for number, plot in enumerate(charts):
        x, y = number % columns * cell[0], number // columns * cell[1]
        draw.text((x + 20, y + 16), f"{plot.title} (over {plot.over})", INK, font)
        _draw(draw, plot, (x, y + head), scale, font)
        for place, curve in enumerate(plot.curves[:24]):
            left = x + 20 + place % 3 * (cell[0] - 40) // 3
            top = y + head + row_height - 20 + place // 3 * 30
            draw.rectangle([left, top + 4, left + 18, top + 22], curve.color)
            shown = f"{curve.name} {text_of(curve.last)}{plot.unit}"
            draw.text((left + 26, top), shown[:30], INK, font)
    return picture


def _draw(draw: Any, plot: Chart, corner: tuple[int, int], scale: int, font: Any) -> None:
    def at(x: float, y: float) -> tuple[float, float]:
        return corner[0] + scale * x, corner[1] + scale * y

    along_x, along_y = axes_of(plot)
    draw.rectangle([at(LEFT, TOP), at(SIZE[0] - RIGHT, SIZE[1] - BOTTOM)], outline=FRAME)
    for y, text in along_y:
        draw.line([at(LEFT, y), at(SIZE[0] - RIGHT, y)], FRAME)
        draw.text(at(LEFT - 4, y), text, INK, font, anchor="rm")
    for x, text in along_x:
        draw.text(at(x, SIZE[1] - BOTTOM + 4), text, INK, font, anchor="mt")
    for curve, pieces in zip(plot.curves, lines_of(plot), strict=True):
        for piece in pieces:
            places = [at(*point) for point in piece]
            draw.line(places, curve.color, 3, joint="curve")
            if len(places) == 1:
                x, y = places[0]
                draw.ellipse([x - 4, y - 4, x + 4, y + 4], curve.color)
