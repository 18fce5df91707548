# SPDX-License-Identifier: Apache-2.0
"""Camera, light and canvas of the synthetic streets: metres in, pixels and label ids out.

World axes in metres: X to the right of the camera, Y up from the ground, Z ahead. Shapes are
painted far to near, each into the image and, with the same outline, into the label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

NEAR = 2.2  # metres; nothing nearer is drawn
SHIFT = 4  # sub-pixel bits of the OpenCV drawing calls

Color = tuple[float, float, float]
Point = tuple[float, float, float]  # X, Y, Z
Array = npt.NDArray[np.float64]
Texture = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A level camera: x = center + focal * X / Z, y = horizon + focal * (height - Y) / Z."""

    focal: float
    center: float
    horizon: float
    height: float

    def project(self, points: Sequence[Point]) -> Array:
        """Pixels (N, 2) of world points; Z is held at the near plane."""
        return np.array([self.pixel(*point) for point in points])

    def pixel(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel of one world point, as `project`."""
        scale = self.focal / max(z, NEAR)
        return self.center + scale * x, self.horizon + scale * (self.height - y)

    def pixels(self, metres: float, depth: float) -> float:
        """Length in pixels of `metres` across the view at `depth`."""
        return self.focal * metres / max(depth, NEAR)


@dataclass(frozen=True, kw_only=True)
class Light:
    """One time of day. Colours are 0..255 RGB, `tint` multiplies every surface."""

    tint: Color
    zenith: Color
    skyline: Color
    haze: float  # depth in metres at which surfaces have lost 63 % of their own colour
    sun_side: int  # -1: the sun stands on the left, 1: on the right
    shadow: float  # brightness of shadowed ground, 0..1
    is_dusk: bool

    def shade(self, color: Color, depth: float, brightness: float = 1.0) -> Color:
        """A surface colour as the camera sees it at `depth` metres."""
        mix = 1 - math.exp(-depth / self.haze)
        parts = [
            min(255.0, value * brightness * tint) * (1 - mix) + sky * mix
            for value, tint, sky in zip(color, self.tint, self.skyline, strict=True)
        ]
        return parts[0], parts[1], parts[2]


class Canvas:
    """An image (H, W, 3) uint8 and its raw label ids (H, W) uint8, painted together."""

    def __init__(self, height: int, width: int, camera: Camera, light: Light) -> None:
        self.camera, self.light = camera, light
        self.image = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.uint8)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.ids.shape[0], self.ids.shape[1]

    def polygon(self, pixels: Array, color: Color, label: int | None) -> None:
        """Fill a polygon given in pixels (N, 2); label None changes the image only."""
        limit = 8.0 * max(self.size)
        corners = np.rint(np.clip(pixels, -limit, limit) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(self.image, [corners], color, lineType=cv2.LINE_8, shift=SHIFT)
        if label is not None:
            cv2.fillPoly(self.ids, [corners], label, lineType=cv2.LINE_8, shift=SHIFT)

    def surface(
        self, points: Sequence[Point], color: Color, label: int | None, brightness: float = 1.0
    ) -> None:
        """Fill a polygon given in the world, shaded by its mean depth."""
        depth = sum(max(point[2], NEAR) for point in points) / len(points)
        shaded = self.light.shade(color, depth, brightness)
        self.polygon(self.camera.project(points), shaded, label)

    def disc(
        self, center: Point, radius: float, color: Color, label: int | None, squeeze: float = 1.0
    ) -> None:
        """An upright disc of `radius` metres; `squeeze` scales its width (foreshortening)."""
        x, y = self.camera.pixel(*center)
        size = self.camera.pixels(radius, center[2])
        shaded = self.light.shade(color, center[2])
        self.oval(x, y, size * squeeze, size, shaded, label)

    def oval(
        self, x: float, y: float, across: float, down: float, color: Color, label: int | None
    ) -> None:
        """An ellipse in pixels, half axes `across` and `down`, at least half a pixel each."""
        limit = 8.0 * max(self.size)
        if not (abs(x) < limit and abs(y) < limit and across < limit and down < limit):
            return
        one = 1 << SHIFT
        center = (round(x * one), round(y * one))
        axes = (max(round(across * one), one // 2), max(round(down * one), one // 2))
        cv2.ellipse(self.image, center, axes, 0, 0, 360, color, -1, cv2.LINE_8, SHIFT)
        if label is not None:
            cv2.ellipse(self.ids, center, axes, 0, 0, 360, label, -1, cv2.LINE_8, SHIFT)

    def bar(self, start: Point, end: Point, width: float, color: Color, label: int | None) -> None:
        """A straight bar of `width` metres between two world points, never under a pixel."""
        a, b = self.camera.project([start, end])
        half = max(self.camera.pixels(width, (start[2] + end[2]) / 2), 1.0) / 2
        along = b - a
        length = float(np.hypot(*along))
        if length < 1e-6:
            return
        across = np.array([-along[1], along[0]]) / length * half
        color = self.light.shade(color, (start[2] + end[2]) / 2)
        self.polygon(np.stack([a - across, a + across, b + across, b - across]), color, label)

    def visible_pixels(self, corners: Sequence[Point]) -> float:
        """Area in pixels of the part of a world quad's bounding box that is in the image."""
        quad = self.camera.project(corners)
        low, high = np.maximum(quad.min(0), 0), np.minimum(quad.max(0), self.size[::-1])
        return float(np.prod(np.maximum(high - low, 0)))

    def lay_texture(
        self, corners: Sequence[Point], texture: Texture, label: int, brightness: float = 1.0
    ) -> None:
        """Map a texture (h, w, 3) onto a world quad: top left, top right, bottom right, left."""
        quad = self.camera.project(corners)
        height, width = self.size
        low = np.maximum(np.floor(quad.min(0)).astype(int), 0)
        high = np.minimum(np.ceil(quad.max(0)).astype(int) + 1, [width, height])
        if (high - low < 1).any():
            return
        texture = _shrunk(texture, quad)
        rows, columns = texture.shape[:2]
        source = np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (quad - low).astype(np.float32))
        box = (int(high[0] - low[0]), int(high[1] - low[1]))
        warped = cv2.warpPerspective(
            texture, matrix, box, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros((box[1], box[0]), np.uint8)
        outline = np.rint((quad - low) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [outline], 1, shift=SHIFT)
        depth = float(np.mean([max(point[2], NEAR) for point in corners]))
        shaded = self._shade_texture(warped, depth, brightness)
        region = np.s_[low[1] : high[1], low[0] : high[0]]
        cv2.copyTo(shaded, mask, self.image[region])
        self.ids[region][mask > 0] = label

    def _shade_texture(self, texture: npt.NDArray[Any], depth: float, brightness: float) -> Texture:
        mix = 1 - float(np.exp(-depth / self.light.haze))
        scale = np.array(self.light.tint) * brightness * (1 - mix)
        values = texture.astype(np.float32) * scale.astype(np.float32)
        return np.clip(values + np.array(self.light.skyline, np.float32) * mix, 0, 255).astype(
            np.uint8
        )

    def darken(self, points: Sequence[Point], factor: float, soft: float = 0.0) -> None:
        """Multiply the image inside a world polygon; `soft` metres of blurred edge."""
        height, width = self.size
        quad = self.camera.project(points)
        blur = self.camera.pixels(soft, float(np.mean([point[2] for point in points])))
        low = np.maximum(np.floor(quad.min(0) - 3 * blur).astype(int), 0)
        high = np.minimum(np.ceil(quad.max(0) + 3 * blur).astype(int) + 1, [width, height])
        if (high - low < 1).any():
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.float32)
        limit = 8.0 * max(self.size)
        outline = np.rint(np.clip(quad - low, -limit, limit) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [outline], 1.0, shift=SHIFT)
        if blur > 0.3:
            mask = cv2.GaussianBlur(mask, (0, 0), min(blur, 40.0))
        region = self.image[low[1] : high[1], low[0] : high[0]]
        region[:] = region * (1 - (1 - factor) * mask[..., None])


def _shrunk(texture: Texture, quad: Array) -> Texture:
    """The texture averaged down to about its size in pixels, so that it does not flicker."""
    edges = np.hypot(*(np.roll(quad, -1, axis=0) - quad).T)
    width = int(np.clip(max(edges[0], edges[2]), 1, texture.shape[1]))
    height = int(np.clip(max(edges[1], edges[3]), 1, texture.shape[0]))
    if (height, width) == texture.shape[:2]:
        return texture
    resized = cv2.resize(texture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: tuple[int, int], octaves: int = 3
) -> npt.NDArray[np.float32]:
    """Noise (height, width) float32 about 0, standard deviation near 1, `cells` coarse cells."""
    total = np.zeros((height, width), np.float32)
    weight, norm = 1.0, 0.0
    for octave in range(octaves):
        rows, columns = cells[0] << octave, cells[1] << octave
        coarse = rng.standard_normal((rows + 1, columns + 1), np.float32)
        total += weight * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        norm += weight**2
        weight *= 0.55
    return total / np.float32(norm**0.5)
