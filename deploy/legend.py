# SPDX-License-Identifier: Apache-2.0
"""A picture with the classes in it named below, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from assembly.answer import Picture

Entry = tuple[str, tuple[int, int, int]]  # text, colour

PAPER, INK, EDGE = (255, 255, 255), (25, 28, 34), (150, 156, 166)
TEXT, SWATCH, GAP, LINE = 15, 14, 8, 24  # pixels
NARROWEST = 360  # below it a legend would have one name a line


def with_legend(pixels: Picture, entries: Sequence[Entry]) -> Image.Image:
    """`pixels` (H, W, 3) above its entries, (text, colour), in as many lines as they need."""
    font = ImageFont.load_default(TEXT)
    height, width = pixels.shape[:2]
    wide = max(width, NARROWEST)
    places: list[tuple[int, int]] = []
    left, line = GAP, 0
    for text, _ in entries:
        needed = SWATCH + GAP + round(font.getlength(text)) + 2 * GAP
        if left > GAP and left + needed > wide:
            left, line = GAP, line + 1
        places.append((left, line))
        left += needed
    canvas = Image.new("RGB", (wide, height + GAP + LINE * (line + 1)), PAPER)
    canvas.paste(Image.fromarray(np.ascontiguousarray(pixels)), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for (text, color), (x, row) in zip(entries, places, strict=True):
        top = height + GAP + LINE * row
        draw.rectangle((x, top, x + SWATCH, top + SWATCH), color, EDGE)
        draw.text((x + SWATCH + GAP, top + SWATCH // 2), text, INK, font, "lm")
    return canvas
