# SPDX-License-Identifier: Apache-2.0
"""The moving parts of a synthetic street: cars, trucks, buses, trams, people, two-wheelers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.synthetic_canvas import NEAR, Canvas, Color
from datasets.synthetic_street import Rng, vary

PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 24, 25, 26, 27, 28, 31, 32, 33

PAINTS: tuple[Color, ...] = (
    (196, 198, 202), (38, 40, 44), (228, 228, 228), (120, 26, 30), (34, 58, 112),
    (110, 114, 118), (168, 34, 34), (56, 84, 76), (196, 178, 134), (70, 72, 78),
)  # fmt: skip
CLOTHES: tuple[Color, ...] = (
    (44, 48, 66), (150, 44, 48), (60, 92, 150), (200, 196, 186), (84, 66, 54),
    (36, 36, 38), (206, 148, 60), (88, 112, 82), (128, 80, 120),
)  # fmt: skip
SKIN: tuple[Color, ...] = ((222, 178, 148), (168, 120, 90), (104, 72, 54))
GLASS: Color = (46, 58, 70)
TYRE: Color = (26, 26, 28)

Profile = Sequence[tuple[float, float]]  # (share of the length from the rear, height in metres)


def _side(
    canvas: Canvas,
    x: float,
    z: float,
    length: float,
    outline: Profile,
    color: Color,
    label: int,
    brightness: float,
) -> None:
    points = [(x, y, z + share * length) for share, y in outline]
    canvas.surface(points, color, label, brightness)


def _face(
    canvas: Canvas,
    center: float,
    half: tuple[float, float],
    y: tuple[float, float],
    z: float,
    color: Color,
    label: int,
) -> None:
    """An upright trapezium facing the camera: half widths and heights, bottom then top."""
    low, high = half
    points = [(center - low, y[0], z), (center + low, y[0], z)]
    points += [(center + high, y[1], z), (center - high, y[1], z)]
    canvas.surface(points, color, label)


def _ground_shadow(canvas: Canvas, x: float, z: float, half: float, length: float) -> None:
    corners = [(x - half, 0.0, z - 0.3), (x + half, 0.0, z - 0.3)]
    corners += [(x + half, 0.0, z + length), (x - half, 0.0, z + length)]
    canvas.darken(corners, 0.42, soft=0.25)


def _wheels(canvas: Canvas, x: float, z: float, length: float, label: int, radius: float) -> None:
    """Two wheels on the visible side; seen from behind they are ovals."""
    for share in (0.18, 0.8):
        depth = z + share * length
        if depth < NEAR:
            continue
        turn = min(1.0, abs(x) / depth + 0.15)
        canvas.disc((x, radius, depth), radius, TYRE, label, squeeze=turn)
        canvas.disc((x, radius, depth), radius * 0.5, (120, 122, 126), label, squeeze=turn)


def paint_car(canvas: Canvas, rng: Rng, x: float, z: float, oncoming: bool) -> None:
    """A car at lateral centre `x`, its end that is nearer to the camera at depth `z`."""
    paint = vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 0.1)
    length, half = rng.uniform(3.9, 4.7), rng.uniform(0.84, 0.94)
    roof, belt = rng.uniform(1.38, 1.6), rng.uniform(0.82, 0.92)
    back = 0.03 if rng.random() < 0.4 else 0.14  # boot of an estate or a saloon
    # Shares of the length, from the near end: cabin at the belt line, then at the roof.
    low, high = ((0.27, 1 - back), (0.45, 0.92 - back))
    if not oncoming:
        low, high = ((back, 0.74), (back + 0.08, 0.55))
    _ground_shadow(canvas, x, z, half * 1.05, length)
    inner = x - half if x > 0 else x + half
    lit = 1.0 if (inner < x) == (canvas.light.sun_side < 0) else 0.78
    if abs(inner) > 0.4:
        far_end = [(1.0, belt)] if oncoming else [(1.0, 0.62), (0.97, 0.72), (0.74, belt)]
        body = [(0.0, 0.28), (1.0, 0.28), *far_end, (0.0, belt)]
        _side(canvas, inner, z, length, body, paint, CAR, lit)
        _wheels(canvas, inner, z, length, CAR, 0.32)
    deck, roof_z = (z + low[0] * length, z + low[1] * length), tuple(z + s * length for s in high)
    lid = [(x - half, belt, z), (x + half, belt, z), (x + half, belt, deck[0])]
    canvas.surface([*lid, (x - half, belt, deck[0])], paint, CAR, 1.15)
    cabin = _Cabin(
        x=x, half=half, height=(belt, roof), deck=deck, roof=(roof_z[0], roof_z[1]), lit=lit
    )
    for shrink, color in ((0.0, paint), (0.1, GLASS)):
        _paint_cabin(canvas, cabin, shrink, color)
    _end_of_car(canvas, x, z, half, belt, paint, oncoming)


@dataclass(frozen=True, kw_only=True)
class _Cabin:
    """Where the cabin of a car is: lateral centre and half width, all in metres.

    height: of belt and roof. deck, roof: depths of the near and far end at these heights. lit:
    brightness of its side.
    """

    x: float
    half: float
    height: tuple[float, float]
    deck: tuple[float, float]
    roof: tuple[float, float]
    lit: float


def _paint_cabin(canvas: Canvas, cabin: _Cabin, shrink: float, color: Color) -> None:
    """Side and near end of the cabin, from the belt line to the narrower roof.

    shrink: share that is left free at every edge, for the panes inside their frames.
    """
    x, half, y = cabin.x, cabin.half, cabin.height
    deck, roof = cabin.deck, cabin.roof
    side = -1 if x > 0 else 1
    wide, narrow = half * 0.98, half * 0.76
    sunk = (y[1] - y[0]) * shrink
    base, top = y[0] + sunk * 0.6 - 0.02, y[1] - sunk  # lower: no gap to the body
    slack = (deck[1] - deck[0]) * shrink * 0.7
    if abs(x + side * half) > 0.4:
        points = [
            (x + side * wide, base, deck[0] + slack),
            (x + side * wide, base, deck[1] - slack),
        ]
        points += [
            (x + side * narrow, top, roof[1] - slack),
            (x + side * narrow, top, roof[0] + slack),
        ]
        canvas.surface(points, color, CAR, cabin.lit)
    wide, narrow = wide * (1 - shrink), narrow * (1 - shrink)
    points = [(x - wide, base, deck[0]), (x + wide, base, deck[0])]
    points += [(x + narrow, top, roof[0]), (x - narrow, top, roof[0])]
    canvas.surface(points, color, CAR, 0.95)


def _end_of_car(
    canvas: Canvas, x: float, z: float, half: float, belt: float, paint: Color, oncoming: bool
) -> None:
    """Tyres, bumper, lights and number plate of the end that faces the camera."""
    for side in (-1, 1):
        edge = x + side * half * 0.8
        _face(canvas, edge, (0.11, 0.11), (0.0, 0.4), z, TYRE, CAR)
    _face(canvas, x, (half, half), (0.26, belt), z, paint, CAR)
    dark: Color = (paint[0] * 0.45, paint[1] * 0.45, paint[2] * 0.45)
    _face(canvas, x, (half * 0.97, half * 0.97), (0.24, 0.4), z, dark, CAR)
    lamp: Color = (244, 240, 214) if oncoming else (190, 30, 28)
    if canvas.light.is_dusk:
        lamp = (255, 250, 220) if oncoming else (255, 60, 48)
    for side in (-1, 1):
        center = x + side * half * 0.78
        _face(canvas, center, (0.17, 0.17), (belt - 0.27, belt - 0.08), z, lamp, CAR)
    if oncoming:
        _face(canvas, x, (half * 0.5, half * 0.5), (0.45, 0.62), z, (30, 30, 32), CAR)
    _face(canvas, x, (0.26, 0.26), (0.44, 0.56), z, (232, 232, 226), CAR)


def paint_box_vehicle(
    canvas: Canvas, rng: Rng, x: float, z: float, label: int, oncoming: bool
) -> None:
    """A truck, bus or tram: a long box with windows where the kind has them."""
    length, half, top = {
        TRUCK: (7.5, 1.2, 3.3), BUS: (11.0, 1.25, 3.0), TRAIN: (22.0, 1.25, 3.4),
    }[label]  # fmt: skip
    choices: dict[int, tuple[Color, ...]] = {
        TRUCK: ((226, 226, 222), (208, 186, 70), (84, 110, 150)),
        BUS: ((206, 160, 30), (188, 36, 42), (236, 232, 214)),
        TRAIN: ((180, 40, 40), (226, 206, 120), (60, 130, 110)),
    }
    paint = vary(rng, choices[label][int(rng.integers(3))], 0.08)
    _ground_shadow(canvas, x, z, half, length)
    inner = x - half if x > 0 else x + half
    lit = 1.0 if (inner < x) == (canvas.light.sun_side < 0) else 0.8
    if abs(inner) > 0.3:
        box = [(0.0, 0.35), (1.0, 0.35), (1.0, top), (0.0, top)]
        _side(canvas, inner, z, length, box, paint, label, lit)
        if label != TRUCK:
            for start in np.arange(0.03, 0.95, 0.12):
                pane = [(start, 1.3), (start + 0.1, 1.3), (start + 0.1, 2.4), (start, 2.4)]
                _side(canvas, inner, z, length, pane, GLASS, label, lit)
        _wheels(canvas, inner, z, length, label, 0.48)
    for side in (-1, 1):
        _face(canvas, x + side * half * 0.78, (0.17, 0.17), (0.0, 0.5), z, TYRE, label)
    _face(canvas, x, (half, half), (0.35, top), z, paint, label)
    if label != TRUCK or oncoming:
        _face(canvas, x, (half * 0.88, half * 0.86), (1.3, top - 0.45), z, GLASS, label)
    else:
        dark: Color = (paint[0] * 0.8, paint[1] * 0.8, paint[2] * 0.8)
        _face(canvas, x, (0.03, 0.03), (0.5, top - 0.1), z, dark, label)
    if label == BUS:
        _face(canvas, x, (half * 0.6, half * 0.6), (top - 0.38, top - 0.12), z, (30, 24, 16), label)
    lamp: Color = (250, 244, 214) if oncoming else (196, 34, 30)
    for side in (-1, 1):
        _face(canvas, x + side * half * 0.82, (0.14, 0.14), (0.6, 0.85), z, lamp, label)


def _limbs(
    canvas: Canvas,
    rng: Rng,
    x: float,
    base: float,
    z: float,
    size: float,
    label: int,
    stride: float,
) -> None:
    """Two legs, torso, arms and head of a person `size` metres tall standing at height `base`."""
    trousers = vary(rng, CLOTHES[int(rng.integers(len(CLOTHES)))], 0.2)
    shirt = vary(rng, CLOTHES[int(rng.integers(len(CLOTHES)))], 0.2)
    skin = SKIN[int(rng.integers(len(SKIN)))]
    hip, neck = base + 0.48 * size, base + 0.83 * size
    for side in (-1, 1):
        foot = x + side * (0.04 + stride)
        canvas.bar((x + side * 0.07, hip, z), (foot, base, z), 0.15, trousers, label)
        canvas.bar((foot - 0.06, base + 0.03, z), (foot + 0.1, base + 0.03, z), 0.07, TYRE, label)
    shoulder, waist = 0.125 * size, 0.1 * size
    torso = [(x - waist, hip - 0.04, z), (x + waist, hip - 0.04, z)]
    torso += [(x + shoulder, neck, z), (x - shoulder, neck, z)]
    canvas.surface(torso, shirt, label)
    for side in (-1, 1):
        hand = (x + side * (shoulder + 0.02 + stride * 0.5), hip - 0.02, z)
        canvas.bar((x + side * shoulder, neck - 0.05, z), hand, 0.11, shirt, label)
    canvas.bar((x, neck, z), (x, neck + 0.08, z), 0.1, skin, label)
    head = base + 0.92 * size
    canvas.disc((x, head, z), 0.075 * size, skin, label, squeeze=0.8)
    hair = vary(rng, (56, 42, 32), 0.4)
    canvas.disc((x, head + 0.05, z), 0.06 * size, hair, label, squeeze=0.95)


def paint_person(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """Somebody on foot."""
    size = rng.uniform(1.55, 1.9) if rng.random() < 0.85 else rng.uniform(1.05, 1.4)
    corners = [(x - 0.25, 0.0, z - 0.1), (x + 0.25, 0.0, z - 0.1)]
    corners += [(x + 0.35, 0.0, z + 0.5), (x - 0.35, 0.0, z + 0.5)]
    canvas.darken(corners, 0.6, soft=0.1)
    _limbs(canvas, rng, x, 0.0, z, size, PERSON, rng.uniform(0.0, 0.22))


def paint_two_wheeler(
    canvas: Canvas, rng: Rng, x: float, z: float, label: int, ridden: bool
) -> None:
    """A bicycle or motorcycle, seen from the side or obliquely, with its rider when ridden."""
    turn = rng.uniform(0.45, 1.0)
    paint = vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 0.2)
    wheel, base = (0.34, 0.52) if label == BICYCLE else (0.31, 0.66)
    corners = [(x - base, 0.0, z - 0.1), (x + base, 0.0, z - 0.1)]
    corners += [(x + base, 0.0, z + 0.5), (x - base, 0.0, z + 0.5)]
    canvas.darken(corners, 0.6, soft=0.1)
    thick = 0.07 if label == BICYCLE else 0.16
    for side in (-1, 1):
        center = (x + side * base * turn, wheel, z)
        canvas.disc(center, wheel, TYRE, label, squeeze=turn)
        spokes: Color = (126, 128, 130) if label == BICYCLE else (80, 82, 84)
        canvas.disc(center, wheel - thick, spokes, label, squeeze=turn)
    rear, front = x - base * turn, x + base * turn
    saddle, crank, grip = x - 0.2 * turn, x, x + 0.4 * turn
    frame = 0.08 if label == BICYCLE else 0.26
    canvas.bar((rear, wheel, z), (crank, wheel, z), frame, paint, label)
    canvas.bar((crank, wheel, z), (grip, 0.85, z), frame, paint, label)
    canvas.bar((saddle, 0.85, z), (grip, 0.85, z), frame, paint, label)
    canvas.bar((crank, wheel, z), (saddle, 0.92, z), frame, paint, label)
    canvas.bar((front, wheel, z), (grip, 1.0, z), 0.06, paint, label)
    canvas.bar((grip - 0.12, 1.02, z), (grip + 0.12, 1.02, z), 0.06, TYRE, label)
    canvas.bar((saddle - 0.13, 0.94, z), (saddle + 0.13, 0.94, z), 0.09, TYRE, label)
    if ridden:
        _limbs(canvas, rng, saddle + 0.05, 0.36, z, rng.uniform(1.4, 1.6), RIDER, 0.12)
