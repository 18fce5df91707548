# SPDX-License-Identifier: Apache-2.0
"""The fixed parts of a synthetic street: sky, ground, buildings, greenery, street furniture.

Every function paints one thing at one place; `synthetic_scene` decides what stands where.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from datasets.synthetic_canvas import NEAR, Canvas, Color, Point, Texture, smooth_noise

# Raw Cityscapes ids.
STATIC, ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE = 4, 7, 8, 11, 12, 13, 17
TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY = 19, 20, 21, 22, 23

Rng = np.random.Generator
FAR = 140.0  # metres; the street ends here

FACADES: tuple[Color, ...] = (
    (196, 176, 150), (178, 118, 92), (206, 198, 184), (150, 108, 88), (170, 164, 158),
    (214, 190, 138), (132, 122, 116), (188, 150, 128), (160, 90, 74), (222, 214, 200),
)  # fmt: skip
ASPHALT: tuple[Color, ...] = ((96, 96, 100), (108, 106, 106), (84, 86, 92), (118, 114, 110))
PAVING: tuple[Color, ...] = ((164, 156, 150), (178, 168, 158), (150, 148, 150), (172, 158, 152))


@dataclass(frozen=True, kw_only=True)
class Street:
    """Cross-section in metres: the road from `left` to `right`, pavements beyond."""

    left: float
    right: float
    left_pavement: float
    right_pavement: float
    asphalt: Color
    paving: Color

    def edge(self, side: int) -> float:
        """X of the outer pavement edge; side -1 left, 1 right."""
        if side < 0:
            return self.left - self.left_pavement
        return self.right + self.right_pavement

    def kerb(self, side: int) -> float:
        """X of the road edge."""
        return self.left if side < 0 else self.right


def vary(rng: Rng, color: Color, amount: float) -> Color:
    """A colour of another brightness and a slightly other hue."""
    gain, *shifts = rng.standard_normal(4).tolist()
    scale = 1 + 0.6 * amount * max(-2.0, min(2.0, gain))
    parts = [
        min(max(value * scale + 30 * amount * shift, 4.0), 250.0)
        for value, shift in zip(color, shifts, strict=True)
    ]
    return parts[0], parts[1], parts[2]


def paint_sky(canvas: Canvas, rng: Rng) -> None:
    """Gradient from zenith to skyline with clouds, down to the horizon."""
    height, width = canvas.size
    bottom = int(np.clip(canvas.camera.horizon + 2, 1, height))
    light = canvas.light
    share = np.linspace(0, 1, bottom, dtype=np.float32)[:, None, None] ** 1.3
    sky = np.array(light.zenith, np.float32) * (1 - share) + np.array(light.skyline) * share
    sky = np.repeat(sky.astype(np.float32), width, axis=1)
    clouds = smooth_noise(rng, bottom, width, (3, 4), octaves=4) - rng.uniform(-0.6, 1.2)
    cover = np.clip(clouds * 0.7, 0, 0.85)[..., None]
    white = np.array((255, 196, 170) if light.is_dusk else (250, 250, 252), np.float32)
    white = white * (0.72 if light.is_dusk else 0.97)
    canvas.image[:bottom] = np.clip(sky * (1 - cover) + white * cover, 0, 255)
    canvas.ids[:bottom] = SKY


def ground_quad(
    canvas: Canvas, x0: float, x1: float, z0: float, z1: float, color: Color, label: int | None
) -> None:
    """A rectangle on the ground between two X and two Z, in slices so that haze varies."""
    z0 = max(z0, NEAR)
    steps = 1 if z1 - z0 < 8 else 6
    cuts = np.geomspace(z0, z1, steps + 1)
    for near, far in zip(cuts[:-1], cuts[1:], strict=True):
        corners = [(x0, 0.0, near), (x1, 0.0, near), (x1, 0.0, far), (x0, 0.0, far)]
        canvas.surface(corners, color, label)


def paint_ground(canvas: Canvas, rng: Rng, street: Street, outer: tuple[Color, int]) -> None:
    """Outer ground, pavements with a kerb, and the road with its markings and repairs."""
    color, label = outer
    ground_quad(canvas, -400, 400, NEAR, 900, color, label)
    for side in (-1, 1):
        inner, edge = street.kerb(side), street.edge(side)
        ground_quad(canvas, inner, edge, NEAR, FAR, street.paving, SIDEWALK)
        _paving_joints(canvas, street, side)
    ground_quad(canvas, street.left, street.right, NEAR, 900, street.asphalt, ROAD)
    for _ in range(int(rng.integers(2, 7))):
        x, z = rng.uniform(street.left, street.right - 1), rng.uniform(4, 40)
        patch = vary(rng, street.asphalt, 0.12)
        end = min(x + rng.uniform(0.6, 2.5), street.right)
        ground_quad(canvas, x, end, z, z + rng.uniform(1, 9), patch, ROAD)
    for side in (-1, 1):
        kerb = street.kerb(side)
        light_stone = vary(rng, (188, 184, 178), 0.05)
        ground_quad(canvas, kerb, kerb + side * 0.18, NEAR, FAR, light_stone, SIDEWALK)


def _paving_joints(canvas: Canvas, street: Street, side: int) -> None:
    joint: Color = (street.paving[0] * 0.86, street.paving[1] * 0.86, street.paving[2] * 0.86)
    inner, edge = street.kerb(side), street.edge(side)
    for depth in np.arange(3.0, 26.0, 1.25):
        ground_quad(canvas, inner, edge, depth, depth + 0.06, joint, None)
    ground_quad(canvas, (inner + edge) / 2, (inner + edge) / 2 + 0.05, NEAR, 40, joint, None)


def paint_markings(canvas: Canvas, rng: Rng, street: Street, crossing: float | None) -> None:
    """Lane lines, and a zebra crossing when there is a crossing street."""
    paint = vary(rng, (226, 224, 216), 0.06)
    dash, gap = rng.uniform(2.5, 4), rng.uniform(3, 6)
    lanes = np.arange(-1.75, street.left + 1.5, -3.5)
    for lane in lanes:
        for start in np.arange(rng.uniform(2.5, 6), 90, dash + gap):
            ground_quad(canvas, lane - 0.07, lane + 0.07, start, start + dash, paint, ROAD)
    if rng.random() < 0.5:
        line = street.right - (2.2 if street.right > 3.0 else 0.25)
        ground_quad(canvas, line - 0.06, line + 0.06, NEAR, 90, paint, ROAD)
    if crossing is not None:
        for x in np.arange(street.left + 0.4, street.right - 0.4, 1.0):
            ground_quad(canvas, x, x + 0.5, crossing - 4.2, crossing - 1.2, paint, ROAD)


def facade(rng: Rng, color: Color, storeys: int, bays: int, is_dusk: bool) -> Texture:
    """A front with windows, (28 * storeys, 24 * bays, 3): shops below, frames, lit at dusk."""
    rows, columns = 28, 24
    texture = np.empty((rows * storeys, columns * bays, 3), np.float32)
    texture[:] = color
    texture += 5 * smooth_noise(rng, *texture.shape[:2], (4, 4))[..., None]
    window_width, window_height = int(rng.integers(9, 15)), int(rng.integers(13, 19))
    trim = np.array(vary(rng, (218, 212, 204), 0.12))
    has_shops = rng.random() < 0.5
    for storey in range(storeys):
        top = storey * rows
        texture[top : top + 2] *= 0.82
        is_ground = storey == storeys - 1
        for bay in range(bays):
            left = bay * columns + (columns - window_width) // 2
            glass = np.array((60, 72, 86)) * rng.uniform(0.6, 1.35)
            if is_dusk and rng.random() < 0.4:
                glass = np.array((250, 206, 128)) * rng.uniform(0.8, 1.0)
            if is_ground and has_shops:
                panel = texture[top + 8 : top + 27, bay * columns + 2 : bay * columns + 22]
                panel[:] = glass * 0.9
                sign = vary(rng, (190, 70, 60) if rng.random() < 0.5 else (70, 96, 150), 0.3)
                texture[top + 2 : top + 8, bay * columns + 1 : bay * columns + 23] = sign
                continue
            down = top + 6
            texture[down - 1 : down + window_height + 1, left - 1 : left + window_width + 1] = trim
            pane = texture[down : down + window_height, left : left + window_width]
            pane[:] = glass * np.linspace(1.25, 0.8, window_height)[:, None, None]
            pane[:, window_width // 2] = trim * 0.9
    return np.clip(texture, 0, 255).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class House:
    """A box along the street: its front on X = x from z0 to z1, `height` and 12 m deep."""

    x: float
    z0: float
    z1: float
    height: float
    color: Color


def paint_front(
    canvas: Canvas, rng: Rng, corners: list[Point], metres: tuple[float, float], color: Color,
    brightness: float,
) -> None:  # fmt: skip
    """A front of (width, height) metres: windows when it is large enough in the image."""
    pixels = canvas.visible_pixels(corners)
    if pixels < 1:
        return
    if pixels < 80:
        canvas.surface(corners, color, BUILDING, 0.8 * brightness)
        return
    storeys, bays = max(int(metres[1] / 3.1), 1), max(int(metres[0] / 2.8), 1)
    texture = facade(rng, color, storeys, bays, canvas.light.is_dusk)
    canvas.lay_texture(corners, texture, BUILDING, brightness)


def paint_house(canvas: Canvas, rng: Rng, house: House) -> None:
    """Front along the street, the end wall that looks at the camera, a roof line."""
    side = 1 if house.x > 0 else -1
    lit = 1.05 if canvas.light.sun_side != side else 0.8
    x, z0, z1, top = house.x, max(house.z0, NEAR), house.z1, house.height
    if z1 <= NEAR:
        return
    out = x + side * 12
    end: list[Point] = [(x, top, z0), (out, top, z0), (out, 0.0, z0), (x, 0.0, z0)]
    paint_front(canvas, rng, end, (9, top), vary(rng, house.color, 0.04), 1.75 - lit)
    front: list[Point] = [(x, top, z1), (x, top, z0), (x, 0.0, z0), (x, 0.0, z1)]
    paint_front(canvas, rng, front, (z1 - z0, top), house.color, lit)
    roof = vary(rng, (112, 70, 58) if top < 12 else (92, 90, 92), 0.15)
    eaves = [(x, top, z1), (x, top, z0), (x, top + 0.7, z0), (x, top + 0.7, z1)]
    canvas.surface(eaves, roof, BUILDING)


def paint_block(canvas: Canvas, rng: Rng, x: float, z: float, half: float, top: float) -> None:
    """A house across the end of the street, facing the camera."""
    color = FACADES[int(rng.integers(len(FACADES)))]
    corners: list[Point] = [(x - half, top, z), (x + half, top, z)]
    corners += [(x + half, 0.0, z), (x - half, 0.0, z)]
    paint_front(canvas, rng, corners, (2 * half, top), color, 0.95)


def paint_barrier(canvas: Canvas, rng: Rng, x: float, z0: float, z1: float, label: int) -> None:
    """A fence of bars or a wall of blocks along the street, about 1.5 m high."""
    rows, columns = 24, max(int((z1 - z0) * 8), 8)
    if label == FENCE:
        wood = rng.random() < 0.5
        color = vary(rng, (140, 112, 84) if wood else (92, 104, 98), 0.15)
        texture = np.full((rows, columns, 3), (70, 84, 60), np.float32)
        texture[:, 0::4] = color
        texture[:, 1::4] = color
        texture[[2, 3, 18, 19]] = np.array(color) * 0.8
        height = rng.uniform(1.1, 1.7)
    else:
        color = vary(rng, (150, 138, 128), 0.15)
        texture = np.empty((rows, columns, 3), np.float32)
        texture[:] = color
        texture *= 1 + 0.07 * rng.standard_normal((rows, columns, 1))
        texture[5::6] *= 0.75
        texture[:2] = np.array(color) * 1.2
        height = rng.uniform(1.4, 2.4)
    z0 = max(z0, NEAR)
    corners = [(x, height, z1), (x, height, z0), (x, 0.0, z0), (x, 0.0, z1)]
    side = 1 if x > 0 else -1
    lit = 1.05 if canvas.light.sun_side != side else 0.82
    canvas.lay_texture(corners, np.clip(texture, 0, 255).astype(np.uint8), label, lit)


def paint_tree(canvas: Canvas, rng: Rng, x: float, z: float, height: float) -> None:
    """A trunk and a crown of overlapping leaf clumps, brighter on the sunny side."""
    trunk = vary(rng, (86, 68, 52), 0.2)
    canvas.bar((x, 0.0, z), (x, height * 0.6, z), 0.32, trunk, VEGETATION)
    radius, middle = height * rng.uniform(0.26, 0.36), height * 0.66
    leaf = vary(rng, (74, 104, 44), 0.22)
    px, py = canvas.camera.pixel(x, middle, z)
    reach = canvas.camera.pixels(radius, z)
    if not -2 * reach < px < canvas.size[1] + 2 * reach:
        return
    count = int(min(max(reach * 1.2, 14), 90))
    spread = np.clip(rng.standard_normal((count, 2)), -1.8, 1.8) * 0.45
    sizes = np.sort(rng.uniform(0.22, 0.45, count))[::-1]
    sunny = 1 + 0.3 * spread[:, 1] + 0.22 * canvas.light.sun_side * spread[:, 0]
    bright = np.clip(sunny * (1 + 0.08 * rng.standard_normal(count)), 0.5, 1.5)
    for (dx, dy), size, gain in zip(spread.tolist(), sizes.tolist(), bright.tolist(), strict=True):
        shaded = canvas.light.shade(leaf, z, gain)
        x_px, y_px, size_px = px + reach * dx, py - reach * dy, reach * size
        canvas.oval(x_px, y_px, size_px, size_px * 0.85, shaded, VEGETATION)


def paint_hedge(canvas: Canvas, rng: Rng, x: float, z0: float, z1: float, height: float) -> None:
    """A hedge or bushes along the street."""
    color = vary(rng, (66, 98, 46), 0.2)
    cells = (3, max(int(z1 - z0), 3))
    bumps = smooth_noise(rng, 24, 96, cells)[..., None]
    texture = np.array(color, np.float32) * (1 + 0.22 * bumps)
    texture[:5] *= 1.25
    z0 = max(z0, NEAR)
    corners = [(x, height, z1), (x, height, z0), (x, 0.0, z0), (x, 0.0, z1)]
    canvas.lay_texture(corners, np.clip(texture, 0, 255).astype(np.uint8), VEGETATION)
    for z in np.arange(z1, z0, -0.9):
        shaded = canvas.light.shade(vary(rng, color, 0.2), float(z), 1.1)
        px, py = canvas.camera.pixel(x, height, float(z))
        size = canvas.camera.pixels(rng.uniform(0.25, 0.5), float(z))
        canvas.oval(px, py, size, size * 0.7, shaded, VEGETATION)


def paint_lamp(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A street lamp that leans over the road."""
    color = vary(rng, (118, 120, 122), 0.2)
    height, reach = rng.uniform(6, 8.5), -1.6 if x > 0 else 1.6
    canvas.bar((x, 0.0, z), (x, height, z), 0.17, color, POLE)
    canvas.bar((x, height, z), (x + reach, height + 0.3, z), 0.13, color, POLE)
    glow: Color = (255, 236, 190) if canvas.light.is_dusk else (200, 200, 196)
    canvas.bar((x + reach, height + 0.3, z), (x + reach * 1.4, height + 0.3, z), 0.26, glow, POLE)


def paint_sign(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A pole with a round, triangular, square or blue sign."""
    height = rng.uniform(2.1, 2.8)
    canvas.bar((x, 0.0, z), (x, height + 0.6, z), 0.1, (142, 144, 146), POLE)
    red, white, blue, yellow = (200, 36, 40), (240, 240, 238), (34, 84, 176), (238, 190, 40)
    kind = int(rng.integers(4))
    if kind == 0:
        canvas.disc((x, height + 0.35, z), 0.4, red, TRAFFIC_SIGN)
        canvas.disc((x, height + 0.35, z), 0.27, white, TRAFFIC_SIGN)
    elif kind == 1:
        for size, color in ((0.5, red), (0.3, white)):
            tip = [(x - size, height, z), (x + size, height, z), (x, height + 1.7 * size, z)]
            canvas.surface(tip, color, TRAFFIC_SIGN)
    elif kind == 2:
        canvas.disc((x, height + 0.35, z), 0.4, blue, TRAFFIC_SIGN)
    else:
        half, color = 0.42, yellow if rng.random() < 0.5 else blue
        box = [(x - half, height, z), (x + half, height, z)]
        box += [(x + half, height + 0.8, z), (x - half, height + 0.8, z)]
        canvas.surface(box, color, TRAFFIC_SIGN)


def paint_traffic_light(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A pole with a dark three-lamp box, one lamp on."""
    canvas.bar((x, 0.0, z), (x, 3.4, z), 0.14, (96, 98, 100), POLE)
    reach = -0.28 if x > 0 else 0.28
    left, right = sorted((x, x + 2 * reach))
    box = [(left, 2.3, z), (right, 2.3, z), (right, 3.75, z), (left, 3.75, z)]
    canvas.surface(box, (34, 36, 34), TRAFFIC_LIGHT)
    on = int(rng.integers(3))
    lamps: tuple[Color, ...] = ((255, 50, 40), (255, 190, 40), (50, 240, 130))
    for index, color in enumerate(lamps):
        shown: Color = color if index == on else (62, 58, 54)
        place = (x + reach, 3.5 - 0.46 * index, z)
        canvas.disc(place, 0.18, shown, TRAFFIC_LIGHT)


def paint_bin(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A waste bin or box: a static thing without a class of its own."""
    color = vary(rng, (70, 92, 74) if rng.random() < 0.5 else (196, 148, 56), 0.2)
    half, height = 0.3, rng.uniform(0.8, 1.2)
    box = [(x - half, 0.0, z), (x + half, 0.0, z), (x + half, height, z), (x - half, height, z)]
    canvas.surface(box, color, STATIC)


def grain(canvas: Canvas, rng: Rng) -> None:
    """Surface texture: fine and coarse noise, its strength a matter of the class."""
    strength = np.full(256, 2.0, np.float32)
    for label, value in ((ROAD, 5), (SIDEWALK, 5), (VEGETATION, 15), (TERRAIN, 12), (SKY, 0.6)):
        strength[label] = value
    height, width = canvas.size
    fine = cv2.GaussianBlur(rng.standard_normal((height, width), np.float32), (0, 0), 0.8) * 2
    wide = smooth_noise(rng, height, width, (8, 8), octaves=2)
    texture = (0.75 * fine + 0.6 * wide) * strength[canvas.ids]
    canvas.image[:] = np.clip(canvas.image + texture[..., None], 0, 255)
