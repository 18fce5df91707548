# SPDX-License-Identifier: Apache-2.0
"""One synthetic street scene: what stands where, painted far to near, seen through a camera.

`render(seed, height, width)` is a pure function: the same arguments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from datasets import synthetic_street as street_parts
from datasets import synthetic_traffic as traffic
from datasets.synthetic_canvas import Camera, Canvas, Color, Light
from datasets.synthetic_street import FAR, House, Rng, Street, vary

EGO_VEHICLE, RECTIFICATION_BORDER = 1, 2
Pixels = npt.NDArray[np.uint8]


# Layers from the sides to the middle. The camera stands in the middle, so whatever is nearer to
# the middle is never hidden by what is farther out; inside a layer depth decides.
HORIZON, HOUSES, GARDENS, BARRIERS, STREET = range(5)


@dataclass
class Stage:
    """Things to paint, each with its layer and its depth in metres.

    Every thing draws from a generator of its own: how much detail one has, which depends on the
    size of the image, changes nothing about the others.
    """

    seed: tuple[int, ...]
    things: list[tuple[int, float, Callable[[Canvas], None]]] = field(default_factory=list)

    def add(self, layer: int, depth: float, paint: Callable[..., None], *args: object) -> None:
        """Remember a thing; `paint(canvas, rng, *args)` is called when its turn comes."""
        rng = np.random.default_rng([*self.seed, len(self.things)])
        self.things.append((layer, -depth, lambda canvas: paint(canvas, rng, *args)))

    def paint(self, canvas: Canvas) -> None:
        """Paint everything, layer after layer, the farthest of each first."""
        for _, _, paint in sorted(self.things, key=lambda thing: thing[:2]):
            paint(canvas)


def render(seed: Sequence[int], height: int, width: int) -> tuple[Pixels, Pixels]:
    """A scene: image (H, W, 3) uint8 RGB and raw Cityscapes label ids (H, W) uint8."""
    rng = np.random.default_rng(list(seed))
    factor = 2 if height * width <= 512 * 1024 else 1  # small images: smooth the stairs
    canvas = _canvas(rng, height * factor, width * factor)
    street = _street(rng)
    crossing = float(rng.uniform(18, 45)) if rng.random() < 0.45 else None
    garden = rng.random() < 0.6
    outer: tuple[Color, int] = (vary(rng, (104, 126, 62), 0.15), street_parts.TERRAIN)
    if not garden:
        outer = (street.paving, street_parts.SIDEWALK)
    street_parts.paint_sky(canvas, rng)
    street_parts.paint_ground(canvas, rng, street, outer)
    if crossing is not None:
        corners = (-80.0, 80.0, crossing, crossing + 8)
        street_parts.ground_quad(canvas, *corners, street.asphalt, street_parts.ROAD)
    street_parts.paint_markings(canvas, rng, street, crossing)
    _cast_shadows(canvas, rng, street)
    stage = Stage((*seed, 1))
    _end_of_street(stage, rng)
    for side in (-1, 1):
        _roadside(stage, rng, street, side, garden, crossing)
        _furniture(stage, rng, street, side, crossing)
        _people(stage, rng, street, side)
    _vehicles(stage, rng, street)
    stage.paint(canvas)
    street_parts.grain(canvas, rng)
    return _develop(canvas, rng, height, width)


def _canvas(rng: Rng, height: int, width: int) -> Canvas:
    camera = Camera(
        focal=0.92 * max(width, 1.5 * height),
        center=width * float(rng.uniform(0.38, 0.62)),
        horizon=height * float(rng.uniform(0.4, 0.48)),
        height=float(rng.uniform(1.25, 1.6)),
    )
    return Canvas(height, width, camera, _light(rng))


def _light(rng: Rng) -> Light:
    kind = rng.random()
    side = -1 if rng.random() < 0.5 else 1
    gain = float(rng.uniform(0.88, 1.1))
    if kind < 0.55:  # sunny
        return Light(
            tint=(gain * 1.04, gain, gain * 0.95), zenith=(88, 140, 206), skyline=(196, 214, 230),
            haze=420, sun_side=side, shadow=0.55, is_dusk=False,
        )  # fmt: skip
    if kind < 0.85:  # overcast
        return Light(
            tint=(gain * 0.88, gain * 0.9, gain * 0.93), zenith=(176, 184, 194),
            skyline=(214, 218, 222), haze=260, sun_side=side, shadow=0.82, is_dusk=False,
        )  # fmt: skip
    return Light(
        tint=(gain * 0.66, gain * 0.58, gain * 0.6), zenith=(74, 86, 134), skyline=(224, 158, 118),
        haze=320, sun_side=side, shadow=0.7, is_dusk=True,
    )  # fmt: skip


def _street(rng: Rng) -> Street:
    lanes_left = int(rng.integers(1, 3))
    has_parking = rng.random() < 0.7
    asphalt = street_parts.ASPHALT[int(rng.integers(len(street_parts.ASPHALT)))]
    paving = street_parts.PAVING[int(rng.integers(len(street_parts.PAVING)))]
    return Street(
        left=-1.75 - 3.5 * lanes_left - (2.2 if has_parking else 0.4),
        right=1.75 + (2.2 if has_parking else 0.4),
        left_pavement=float(rng.uniform(2.5, 5.0)),
        right_pavement=float(rng.uniform(2.5, 5.0)),
        asphalt=vary(rng, asphalt, 0.08),
        paving=vary(rng, paving, 0.06),
    )


def _cast_shadows(canvas: Canvas, rng: Rng, street: Street) -> None:
    """Shadows of the houses on the sunny side across pavement and road."""
    side = canvas.light.sun_side
    start = street.edge(side)
    z = 2.3
    while z < 70:
        length, reach = rng.uniform(7, 20), rng.uniform(2.0, 7.5)
        if rng.random() < 0.8:
            end = start - side * reach
            corners = [(start, 0.0, z), (end, 0.0, z + 1), (end, 0.0, z + length)]
            corners.append((start, 0.0, z + length))
            canvas.darken(corners, canvas.light.shadow, soft=0.15)
        z += length + rng.uniform(0, 5)


def _end_of_street(stage: Stage, rng: Rng) -> None:
    """Far houses and trees that close the view."""
    for _ in range(6):
        x, z = float(rng.uniform(-60, 60)), float(rng.uniform(FAR, FAR + 60))
        size = float(rng.uniform(6, 14)), float(rng.uniform(7, 18))
        stage.add(HORIZON, z, street_parts.paint_block, x, z, *size)
    for _ in range(14):
        x, z = float(rng.uniform(-55, 55)), float(rng.uniform(FAR - 15, FAR + 30))
        stage.add(HORIZON, z, street_parts.paint_tree, x, z, float(rng.uniform(7, 13)))


def _roadside(
    stage: Stage,
    rng: Rng,
    street: Street,
    side: int,
    garden: bool,
    crossing: float | None,
) -> None:
    """Houses, gardens and greenery along one side, section after section."""
    setback = float(rng.uniform(2.5, 6)) if garden else 0.0
    edge, z = street.edge(side), -4.0 + float(rng.uniform(0, 4))
    green = rng.random() < 0.25  # a park instead of houses
    while z < FAR:
        length = float(rng.uniform(9, 20))
        if crossing is not None and z < crossing + 9 and z + length > crossing - 1:
            if z < crossing - 6:
                length = crossing - 1 - z
            else:
                z = crossing + 9
                continue
        if green or rng.random() < 0.15:
            _park(stage, rng, edge, side, z, length)
        else:
            color = street_parts.FACADES[int(rng.integers(len(street_parts.FACADES)))]
            house = House(
                x=edge + side * setback, z0=z, z1=z + length - (0 if rng.random() < 0.6 else 1.5),
                height=float(rng.uniform(6, 19)), color=vary(rng, color, 0.12),
            )  # fmt: skip
            stage.add(HOUSES, z + 0.5, street_parts.paint_house, house)
            if garden:
                _garden(stage, rng, edge, side, setback, z, length)
        z += length


def _park(stage: Stage, rng: Rng, edge: float, side: int, z: float, length: float) -> None:
    for depth in np.arange(max(z, 5.0), z + length, 3.4):
        x = edge + side * float(rng.uniform(2.5, 14))
        args = x, float(depth), float(rng.uniform(5, 10))
        stage.add(HOUSES, float(depth), street_parts.paint_tree, *args)
    x = edge + side * 15
    hedge = x, z, z + length, float(rng.uniform(3, 5))
    stage.add(HOUSES, z + length, street_parts.paint_hedge, *hedge)
    if rng.random() < 0.6:
        _barrier(stage, rng, edge + side * 0.3, z, length)


def _garden(
    stage: Stage,
    rng: Rng,
    edge: float,
    side: int,
    setback: float,
    z: float,
    length: float,
) -> None:
    if rng.random() < 0.5:
        _barrier(stage, rng, edge + side * 0.2, z, length)
    elif rng.random() < 0.4:
        hedge = edge + side * 0.4, z, z + length, float(rng.uniform(0.8, 1.6))
        stage.add(GARDENS, z - 0.1, street_parts.paint_hedge, *hedge)
    if rng.random() < 0.5:
        depth, x = z + float(rng.uniform(1, length)), edge + side * setback * 0.5
        if depth > 5:
            args = x, depth, float(rng.uniform(3.5, 7))
            stage.add(GARDENS, depth, street_parts.paint_tree, *args)


def _barrier(stage: Stage, rng: Rng, x: float, z: float, length: float) -> None:
    label = street_parts.FENCE if rng.random() < 0.55 else street_parts.WALL
    args = x, z, z + length, label
    stage.add(BARRIERS, max(z, 0.0) - 0.2, street_parts.paint_barrier, *args)


def _furniture(stage: Stage, rng: Rng, street: Street, side: int, crossing: float | None) -> None:
    """Lamps, street trees, signs, bins; traffic lights at a crossing."""
    x = street.kerb(side) + side * 0.6
    lamps, trees = rng.random() < 0.85, rng.random() < 0.45
    for depth in np.arange(float(rng.uniform(6, 18)), 90, float(rng.uniform(16, 26))):
        if lamps:
            stage.add(STREET, float(depth), street_parts.paint_lamp, x, float(depth))
        if trees:
            args = x + side * 0.5, float(depth) + 7, float(rng.uniform(5, 8))
            stage.add(STREET, float(depth) + 7, street_parts.paint_tree, *args)
    for _ in range(int(rng.integers(1, 5))):
        depth = float(rng.uniform(6, 32))
        stage.add(STREET, depth, street_parts.paint_sign, x, depth)
    if rng.random() < 0.4:
        depth = float(rng.uniform(6, 24))
        stage.add(STREET, depth, street_parts.paint_bin, x + side * 0.5, depth)
    if crossing is not None:
        depth = crossing - 1.0
        stage.add(STREET, depth, street_parts.paint_traffic_light, x, depth)
        depth = crossing + 9.0
        stage.add(STREET, depth, street_parts.paint_traffic_light, x, depth)
    elif rng.random() < 0.45:
        depth = float(rng.uniform(9, 24))
        stage.add(STREET, depth, street_parts.paint_traffic_light, x, depth)


def _people(stage: Stage, rng: Rng, street: Street, side: int) -> None:
    """Pedestrians on the pavement, some crossing the road, parked two-wheelers."""
    inner, edge = street.kerb(side) + side * 0.5, street.edge(side) - side * 0.4
    for _ in range(int(rng.poisson(4.0))):
        depth, x = float(rng.uniform(6, 30)), float(rng.uniform(min(inner, edge), max(inner, edge)))
        stage.add(STREET, depth, traffic.paint_person, x, depth)
        if rng.random() < 0.3:
            stage.add(STREET, depth, traffic.paint_person, x + 0.6, depth)
    if rng.random() < 0.22:
        depth, x = float(rng.uniform(10, 30)), float(rng.uniform(street.left, street.right))
        stage.add(STREET, depth, traffic.paint_person, x, depth)
    if rng.random() < 0.45:
        depth, x = float(rng.uniform(6, 18)), inner + side * 0.4
        for number in range(int(rng.integers(1, 4))):
            args = x, depth + 0.7 * number, traffic.BICYCLE, False
            stage.add(STREET, depth + 0.7 * number, traffic.paint_two_wheeler, *args)


def _vehicles(stage: Stage, rng: Rng, street: Street) -> None:
    """Parked cars at the kerbs, traffic in the lanes, riders between."""
    for side in (-1, 1):
        if street.right > 3.0:
            x, depth = street.kerb(side) - side * 1.05, float(rng.uniform(3.5, 9))
            while depth < 70:
                if rng.random() < 0.62:
                    stage.add(STREET, depth, traffic.paint_car, x, depth, side < 0)
                depth += float(rng.uniform(5.4, 7.5))
    lanes = [(0.0, False)]
    lanes += [(x, True) for x in (-3.5, -7.0) if x - 1.7 > street.left]
    for x, oncoming in lanes:
        depth = float(rng.uniform(9, 30))
        while depth < 110:
            _one_vehicle(stage, rng, x + float(rng.uniform(-0.3, 0.3)), depth, oncoming)
            depth += float(rng.uniform(13, 45))
    if rng.random() < 0.5:
        depth, x = float(rng.uniform(7, 22)), float(rng.choice([-1.9, 1.7]))
        kind = traffic.BICYCLE if rng.random() < 0.7 else traffic.MOTORCYCLE
        stage.add(STREET, depth, traffic.paint_two_wheeler, x, depth, kind, True)


def _one_vehicle(stage: Stage, rng: Rng, x: float, depth: float, oncoming: bool) -> None:
    kind = rng.random()
    if kind < 0.88 or depth < 9:
        stage.add(STREET, depth, traffic.paint_car, x, depth, oncoming)
        return
    label = traffic.TRUCK if kind < 0.935 else traffic.BUS if kind < 0.99 else traffic.TRAIN
    stage.add(STREET, depth, traffic.paint_box_vehicle, x, depth, label, oncoming)


def _develop(canvas: Canvas, rng: Rng, height: int, width: int) -> tuple[Pixels, Pixels]:
    """From the canvas to the file: lens, bonnet, rectification border, sensor noise."""
    _bonnet(canvas, rng)
    small = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    ids = cv2.resize(canvas.ids, (width, height), interpolation=cv2.INTER_NEAREST)
    lens = 0.45 + 0.15 * (height > 400)
    values = cv2.GaussianBlur(small, (0, 0), lens).astype(np.float32)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    values *= (1 - 0.12 * (x**2 + y**2))[..., None]
    noise = rng.standard_normal((height, width, 3), np.float32)
    values += noise * float(rng.uniform(1.5, 4))
    border = max(width // 128, 1)
    for edge in (np.s_[:, :border], np.s_[:, -border:], np.s_[-max(height // 128, 1) :, :]):
        values[edge] *= 0.06
        ids[edge] = RECTIFICATION_BORDER
    return np.clip(values, 0, 255).astype(np.uint8), np.asarray(ids, np.uint8)


def _bonnet(canvas: Canvas, rng: Rng) -> None:
    """The own car's bonnet at the lower edge, with a reflection."""
    height, width = canvas.size
    depth = height * float(rng.uniform(0.05, 0.09))
    paint = vary(rng, (62, 66, 74), 0.25)
    shaded = canvas.light.shade(paint, 0.0)
    center, reach = width * 0.5, width * 0.62
    canvas.oval(center, height + depth * 1.2, reach, depth * 2.2, shaded, EGO_VEHICLE)
    bright = canvas.light.shade((paint[0] * 1.5, paint[1] * 1.5, paint[2] * 1.5), 0.0)
    canvas.oval(center, height + depth * 1.2, reach * 0.5, depth * 1.9, bright, EGO_VEHICLE)
