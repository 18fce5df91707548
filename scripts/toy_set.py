# SPDX-License-Identifier: Apache-2.0
"""A harbour of drawn photos to follow docs/tutorial.md with, labelled in every way that is read.

    python -m scripts.toy_set DIR

    DIR/{train,val}/photos/*.jpg      water, quays and ships
    DIR/{train,val}/ids/*.png         grey: 0 water, 1 quay, 2 ship, 255 not labelled
    DIR/{train,val}/palette/*.png     the same as palette images
    DIR/{train,val}/colours/*.png     the same in colours
    DIR/coco_{train,val}.json, DIR/labelme/*.json, DIR/cvat.xml    polygons of quays and ships
    DIR/new/*.jpg, DIR/new/clip.mp4   without labels

DIR must not exist. The same program draws the same photos.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

HEIGHT, WIDTH = 96, 160
CLASSES = ("water", "quay", "ship")
COLOURS = ((0, 80, 160), (140, 140, 140), (200, 40, 40))
VOID, STAMP = 255, 6  # rows at the top with the camera's time stamp are not labelled
COUNTS = {"train": 24, "val": 6, "new": 3}
FRAMES, RATE = 16, 8.0

Corners = list[tuple[float, float]]
Shape = tuple[str, Corners]
Picture = npt.NDArray[np.uint8]


def shapes_of(rng: np.random.Generator, moved: float = 0.0) -> list[Shape]:
    """A quay at the lower border and one or two ships, the first one `moved` to the right."""
    left, right = rng.uniform(0.62, 0.8, 2) * HEIGHT
    found: list[Shape] = [("quay", [(0, left), (WIDTH, right), (WIDTH, HEIGHT), (0, HEIGHT)])]
    for number in range(int(rng.integers(1, 3))):
        x, y = rng.uniform(0.05, 0.6) * WIDTH, rng.uniform(0.3, 0.5) * HEIGHT
        x += moved if number == 0 else 0.0
        long, high = rng.uniform(0.2, 0.35) * WIDTH, rng.uniform(0.1, 0.16) * HEIGHT
        hull = [(x, y), (x + long, y), (x + 0.85 * long, y + high), (x + 0.15 * long, y + high)]
        mast = [(x + 0.3 * long, y), (x + 0.3 * long, y - high), (x + 0.6 * long, y - high)]
        found.append(("ship", [*hull[:1], *mast, (x + 0.6 * long, y), *hull[1:]]))
    return found


def label_of(shapes: Sequence[Shape]) -> Picture:
    """Class ids (H, W); later shapes cover earlier ones."""
    label = Image.new("L", (WIDTH, HEIGHT), 0)
    for name, corners in shapes:
        ImageDraw.Draw(label).polygon(corners, fill=CLASSES.index(name))
    ids = np.array(label)
    ids[:STAMP] = VOID
    return ids


def photo_of(label: Picture, rng: np.random.Generator) -> Picture:
    """An image (H, W, 3) of what `label` says: every class has a shade and a texture of its own."""
    shades = np.array([(60, 105, 135), (150, 140, 125), (130, 55, 60)], float)
    shades += rng.normal(0, 14, shades.shape)
    pixels = shades[np.where(label == VOID, 0, label)]
    waves = np.sin(np.arange(HEIGHT)[:, None] * 0.9 + 4 * np.sin(np.arange(WIDTH) / 17))
    pixels += (9 * waves * (label == 0))[..., None] + rng.normal(0, 9, (HEIGHT, WIDTH, 1))
    pixels[:STAMP] = 20
    blurred = cv2.GaussianBlur(pixels * rng.uniform(0.8, 1.15), (0, 0), 0.7)
    return blurred.clip(0, 255).astype(np.uint8)


def write_labels(folder: Path, name: str, ids: Picture) -> None:
    """One label in three forms."""
    colours = np.zeros((VOID + 1, 3), np.uint8)
    colours[: len(CLASSES)] = COLOURS
    palette = Image.fromarray(ids)
    palette.putpalette(colours.ravel().tolist())
    coloured = Image.fromarray(colours[ids])
    forms = {"ids": Image.fromarray(ids), "palette": palette, "colours": coloured}
    for form, image in forms.items():
        (folder / form).mkdir(parents=True, exist_ok=True)
        image.save(folder / form / f"{name}.png")


def write_coco(path: Path, annotated: Sequence[tuple[str, list[Shape]]]) -> None:
    """One file for all photos of a split."""
    size = {"height": HEIGHT, "width": WIDTH}
    images = [
        {"id": number, "file_name": image, **size} for number, (image, _) in enumerate(annotated)
    ]
    regions = [
        {
            "image_id": number,
            "category_id": CLASSES.index(name),
            "segmentation": [[value for corner in corners for value in corner]],
        }
        for number, (_, shapes) in enumerate(annotated)
        for name, corners in shapes
    ]
    categories = [{"id": CLASSES.index(name), "name": name} for name in CLASSES[1:]]
    content = {"images": images, "annotations": regions, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")


def write_labelme(path: Path, image: str, shapes: Sequence[Shape]) -> None:
    """One file beside others, for one photo."""
    entries = [
        {"label": name, "shape_type": "polygon", "points": corners} for name, corners in shapes
    ]
    content = {"imagePath": image, "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": entries}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_cvat(path: Path, annotated: Sequence[tuple[str, list[Shape]]]) -> None:
    """One file for all photos."""
    lines = ["<annotations>"]
    for image, shapes in annotated:
        lines.append(f'<image name="{image}" width="{WIDTH}" height="{HEIGHT}">')
        for label, corners in shapes:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)
            lines.append(f'<polygon label={quoteattr(label)} points="{points}" z_order="0"/>')
        lines.append("</image>")
    path.write_text("\n".join([*lines, "</annotations>", ""]), encoding="utf-8")


def write_clip(path: Path) -> None:
    """A ship that passes."""
    code = cv2.VideoWriter.fourcc(*"mp4v")
    clip = cv2.VideoWriter(str(path), code, RATE, (WIDTH, HEIGHT))
    for frame in range(FRAMES):
        label = label_of(shapes_of(np.random.default_rng(99), moved=3.0 * frame))
        clip.write(photo_of(label, np.random.default_rng(98))[..., ::-1].copy())
    clip.release()


def write_set(root: Path) -> None:
    """All files; FileExistsError if `root` is there."""
    root.mkdir(parents=True)
    labelled: dict[str, list[tuple[str, list[Shape]]]] = {"train": [], "val": []}
    for split, count in COUNTS.items():
        folder = f"{split}/photos" if split in labelled else split
        (root / folder).mkdir(parents=True)
        for number in range(count):
            name, rng = f"{split}{number:02d}", np.random.default_rng([len(split), number])
            shapes = shapes_of(rng)
            label, image = label_of(shapes), f"{folder}/{name}.jpg"
            Image.fromarray(photo_of(label, rng)).save(root / image, quality=92)
            if split in labelled:
                labelled[split].append((image, shapes))
                write_labels(root / split, name, label)
                write_labelme(root / "labelme" / f"{name}.json", f"../{image}", shapes)
    for split, annotated in labelled.items():
        write_coco(root / f"coco_{split}.json", annotated)
    write_cvat(root / "cvat.xml", labelled["train"] + labelled["val"])
    write_clip(root / "new" / "clip.mp4")


def main(arguments: Sequence[str]) -> int:
    """Write the set; 0, or 2 with a line."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m scripts.toy_set DIR", file=sys.stderr)
        return 2
    try:
        write_set(Path(arguments[0]))
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{arguments[0]}: {COUNTS['train']} photos to train on, {COUNTS['val']} to validate")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
