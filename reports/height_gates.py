# SPDX-License-Identifier: Apache-2.0
"""Pictures of HANet's gates: how much of every channel passes at every height.

For each block and image one picture: the image, the mean gate of each row as a curve beside it, and
the gate of all channels, rows aligned with those of the image. The channels of the fifth block are
the classes: they appear in their order, with names and colours. The report page also gets the mean
curves over all dumped images.

Source: Choi, Kim, Choo, "Cars Can't Fly up in the Sky" (2020), figure 6, shows such gates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from datasets.spec import Color
from reports.stored_images import ImageRow

KIND = "gate_"  # kind of file of block N: gate_N
CURVE_POINTS = 32  # heights at which mean curves are kept
PANEL = (512, 320)  # largest width and height of the image panel, pixels
CURVE_WIDTH, MAP_WIDTH, GAP, HEAD, FOOT, AXIS = 96, 512, 12, 22, 22, 48
SWATCH, NAME_WIDTH = 8, 11  # height of a class colour; least width of a column with a name
CLASS_BLOCK = "4"  # it gates the scores
INK, FAINT, PAPER = (32, 33, 36), (218, 220, 224), (255, 255, 255)
CURVE_COLOR = (26, 115, 232)
FONT = ImageFont.load_default()
SVG_COLORS = ("#1a73e8", "#d93025", "#188038", "#e37400", "#8430ce")


def block_of(kind: str) -> str:
    """The number of the block: gate_3 -> 3."""
    return kind.removeprefix(KIND)


def mean_curve(gate: npt.NDArray[np.float32], points: int = CURVE_POINTS) -> list[float]:
    """Mean of a gate (C, H) over its channels at `points` heights, top first, three decimals."""
    return [round(float(value), 3) for value in _stretched(gate.mean(0), points)]


def _stretched(values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """(H, ...) at `count` heights, interpolated linearly between the centres of the rows."""
    flat = values.reshape(len(values), -1).astype(np.float32)
    resized = cv2.resize(flat, (flat.shape[1], count), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32).reshape(count, *values.shape[1:])


def gate_picture(
    image: npt.NDArray[np.uint8],
    gate: npt.NDArray[np.float32],
    title: str,
    classes: Sequence[tuple[str, Color]] = (),
) -> npt.NDArray[np.uint8]:
    """Image (H, W, 3) and gate (C, h) in 0..1 side by side, (height, width, 3).

    Channels are sorted by the height at which they are open, so that neighbours look alike.
    `classes`: names and colours of the channels, which then keep their order.
    """
    assert len(classes) in (0, len(gate))
    photo = _fitted(image)
    height, width = photo.shape[:2]
    curve_left = width + AXIS
    map_left = curve_left + CURVE_WIDTH + GAP
    foot = _class_foot(classes) if classes else _plain_foot()
    canvas = Image.new("RGB", (map_left + MAP_WIDTH, HEAD + height + foot.height), PAPER)
    canvas.paste(Image.fromarray(photo), (0, HEAD))
    canvas.paste(Image.fromarray(_heat_map(gate, height, bool(classes))), (map_left, HEAD))
    canvas.paste(foot, (map_left, HEAD + height))
    draw, what = ImageDraw.Draw(canvas), "classes" if classes else "channels"
    draw.text((2, 5), title, INK, FONT)
    draw.text((curve_left, 5), "mean gate", INK, FONT)
    draw.text((map_left, 5), f"gates of {len(gate)} {what}, dark 0, bright 1", INK, FONT)
    _draw_axes(draw, (curve_left, HEAD, height))
    _draw_curve(draw, gate, (curve_left, HEAD, height))
    return np.asarray(canvas)


def _plain_foot() -> Image.Image:
    """The text under channels without a name."""
    foot = Image.new("RGB", (MAP_WIDTH, FOOT), PAPER)
    text = "channels, those open at the top of the image first"
    ImageDraw.Draw(foot).text((0, 5), text, INK, FONT)
    return foot


def _class_foot(classes: Sequence[tuple[str, Color]]) -> Image.Image:
    """Colours under the columns of the classes, names upwards where they are wide enough."""
    column = MAP_WIDTH / len(classes)
    named = column >= NAME_WIDTH
    longest = max(round(FONT.getlength(name)) for name, _ in classes) if named else 0
    foot = Image.new("RGB", (MAP_WIDTH, max(SWATCH + GAP // 2 + longest, FOOT)), PAPER)
    draw = ImageDraw.Draw(foot)
    for index, (name, color) in enumerate(classes):
        left, right = round(index * column), round((index + 1) * column)
        draw.rectangle((left, 2, right - 1, SWATCH), color)
        if named:
            length = round(FONT.getlength(name)) + 1
            text = Image.new("RGB", (length, NAME_WIDTH), PAPER)
            ImageDraw.Draw(text).text((0, 0), name, INK, FONT)
            turned = text.transpose(Image.Transpose.ROTATE_90)
            foot.paste(turned, ((left + right - NAME_WIDTH) // 2, SWATCH + GAP // 3))
    return foot


def _draw_axes(draw: ImageDraw.ImageDraw, place: tuple[int, int, int]) -> None:
    """Height in percent to the left of the curve, values of the mean gate below it."""
    left, top, height = place
    bottom = top + height
    for share in (0.0, 0.5, 1.0):
        draw.text((left - 5, top + share * (height - 1)), f"{share:.0%}", INK, FONT, "rm")
        anchor = {0.0: "la", 0.5: "ma", 1.0: "ra"}[share]
        draw.text((left + share * CURVE_WIDTH, bottom + 5), f"{share:g}", INK, FONT, anchor)
    draw.text((left - 5, bottom + 5), "height", INK, FONT, "ra")


def _fitted(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = min(PANEL[0] / image.shape[1], PANEL[1] / image.shape[0])
    size = max(round(image.shape[1] * factor), 1), max(round(image.shape[0] * factor), 1)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method))


def _heat_map(
    gate: npt.NDArray[np.float32], height: int, keep_order: bool
) -> npt.NDArray[np.uint8]:
    """(C, h) -> (height, MAP_WIDTH, 3), rows down, channels to the right."""
    if not keep_order:
        centres = (gate * np.arange(gate.shape[1])).sum(1) / np.maximum(gate.sum(1), 1e-6)
        gate = gate[np.argsort(centres, kind="stable")]
    ordered = gate.T.astype(np.float32)
    method = cv2.INTER_AREA if ordered.shape[1] > MAP_WIDTH else cv2.INTER_NEAREST
    columns = cv2.resize(ordered, (MAP_WIDTH, ordered.shape[0]), interpolation=method)
    shades = np.clip(_stretched(np.asarray(columns, np.float32), height), 0, 1)
    levels = np.rint(shades * 255).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
    return np.ascontiguousarray(colors[:, :, ::-1])


def _draw_curve(
    draw: ImageDraw.ImageDraw, gate: npt.NDArray[np.float32], place: tuple[int, int, int]
) -> None:
    """The mean gate of every row, from 0 at the left to 1, in (left, top, height)."""
    left, top, height = place
    right, bottom = left + CURVE_WIDTH - 1, top + height - 1
    for share in (0.0, 0.5, 1.0):
        x = left + share * (CURVE_WIDTH - 1)
        draw.line([(x, top), (x, bottom)], FAINT)
    values = _stretched(gate.mean(0), height)
    points = [(left + float(v) * (right - left), top + y) for y, v in enumerate(values)]
    draw.line(points, CURVE_COLOR, 2)


def gate_facts(gates: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Any]:
    """What is stored of the gates of an image: the mean curve of every block."""
    return {kind: mean_curve(gate) for kind, gate in sorted(gates.items())}


def gate_section(rows: Sequence[ImageRow]) -> list[dict[str, Any]]:
    """For the page: one curve per block, the mean over the images that have it.

    `points` are those of an SVG polyline in a square of 100 units, top of the image first.
    """
    kinds = sorted({kind for row in rows for kind in row.facts if kind.startswith(KIND)})
    curves = []
    for kind, color in zip(kinds, SVG_COLORS, strict=False):
        every = np.array([row.facts[kind] for row in rows if kind in row.facts])
        mean = every.mean(0)
        points = [
            f"{100 * value:.1f},{100 * (index + 0.5) / len(mean):.1f}"
            for index, value in enumerate(mean)
        ]
        curves.append(
            {
                "name": f"hanet{block_of(kind)}",
                "color": color,
                "points": " ".join(points),
                "mean": f"{mean.mean():.2f}",
                "highest": f"{100 * (int(mean.argmax()) + 0.5) / len(mean):.0f}",
                "images": len(every),
            }
        )
    return curves
