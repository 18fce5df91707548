# SPDX-License-Identifier: Apache-2.0
"""Polygons of COCO, LabelMe or CVAT to a data set of label images, for `--dataset custom`.

    python -m datasets.convert train.json --images photos --out set --background background
    python -m datasets.convert train=a.json val=b.json --images photos --out set
    python -m datasets.convert labelme_folder --out set --val_share 0.2
    python -m datasets.convert annotations.xml --images photos --out set --names road,car

The new folder holds `set.yml`, `images/SPLIT/` (links to the images, or copies with --copy) and
`labels/SPLIT/*.png` (palette images of ids). Ids are the places of the classes in `names:` of
`set.yml`, from 0 on: the background first if there is one, then in the order of --names, else of
the category ids (COCO), the labels of the project (CVAT), or the alphabet (LabelMe). 255 is
ignored: pixels without any shape, unless --background NAME makes them a class, and the labels of
--ignore.

Exit code 0: done; 2: something is wrong, one line each, and nothing was written.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from datasets.annotations.coco import is_coco, read_coco
from datasets.annotations.contract import Annotations, read_json
from datasets.annotations.cvat import read_cvat
from datasets.annotations.drawing import drawn
from datasets.annotations.labelme import is_labelme, read_labelme
from datasets.annotations.planning import Job, Plan, Rules, class_ids, plan
from datasets.base import DataError
from datasets.custom import hues
from datasets.spec import IGNORE, Color, flat_palette
from runtime import streams
from runtime.errors import UserError, wrong_input
from runtime.files import whole_folder
from runtime.limits import counted
from runtime.progress import counter

SPLITS = ("train", "val", "test")
MAX_LINES = 50  # of faults that are shown
YAML = "set.yml"


def read_source(place: Path) -> Annotations:
    """The annotations in a file or folder, whatever tool wrote them; DataError if none did."""
    if place.is_dir():
        return read_labelme(place)
    if place.suffix.lower() == ".xml":
        return read_cvat(place)
    if not place.is_file():
        raise DataError(f"{place}: there is no such file or folder")
    content = read_json(place)
    if is_coco(content):
        return read_coco(place)
    if is_labelme(content):
        return read_labelme(place)
    raise DataError(
        f"{place}: is neither COCO (images, annotations) nor LabelMe (shapes, imagePath)"
    )


def held_out(jobs: list[Job], share: float) -> tuple[list[Job], list[Job]]:
    """Images to train on and to validate on: in the order of their names every so manieth one.

    UserError if one of both would be empty.
    """
    order = sorted(jobs, key=lambda job: job.name.as_posix())
    edges = np.floor(np.arange(len(order) + 1) * share + 0.5)
    is_val = np.diff(edges) > 0
    train = [job for job, held in zip(order, is_val, strict=True) if not held]
    val = [job for job, held in zip(order, is_val, strict=True) if held]
    if not train or not val:
        raise UserError(
            f"--val_share {share:g} of {counted(len(jobs), 'image')} leaves a split empty"
        )
    return train, val


def write_set(splits: dict[str, list[Job]], ids: dict[str, int], request: Request) -> None:
    """Write the folder, whole or not at all. Errors of the file system pass through."""
    names = [name for name, number in ids.items() if number != IGNORE]
    out, palette = request.out, hues(len(names))
    flat = flat_palette(palette)  # a shorter one would make files of fewer bits per pixel
    blank = IGNORE if request.rules.background is None else 0
    jobs = [(split, job) for split in splits for job in splits[split]]
    report = counter("drawing")
    with whole_folder(out) as partial:
        for number, (split, job) in enumerate(jobs, 1):
            label = Image.fromarray(drawn(job.picture, ids, blank, job.size))
            label.putpalette(flat)
            place = partial / "labels" / split / f"{job.name}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            label.save(place)
            image = partial / "images" / split / f"{job.name}{job.image.suffix}"
            image.parent.mkdir(parents=True, exist_ok=True)
            if request.copy:
                shutil.copyfile(job.image, image)
            else:
                image.symlink_to(job.image.resolve())
            report(number, len(jobs))
        text = description(out.resolve().name, names, palette, list(splits))
        (partial / YAML).write_text(text, encoding="utf-8")


def description(
    name: str, names: list[str], palette: Sequence[Color], splits: Sequence[str]
) -> str:
    """The YAML of a set, as `datasets.custom` reads it."""
    places = {split: {"images": f"images/{split}", "labels": f"labels/{split}"} for split in splits}
    tree = {
        "name": name,
        "names": names,
        "palette": [list(color) for color in palette],
        "ignore": IGNORE,
        "splits": places,
    }
    return str(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=None))


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be made: `sources` by the name of their split, the folder `out`, and how."""

    sources: dict[str, Path]
    out: Path
    rules: Rules
    val_share: float | None = None
    copy: bool = False


def read_request(argv: Sequence[str] | None) -> Request:
    """The command line, checked; UserError for what does not fit together."""
    given = vars(build_parser().parse_args(argv))
    sources: dict[str, Path] = {}
    for text in given["source"]:
        split, equals, place = text.partition("=")
        if not (equals and split in SPLITS):
            split, place = SPLITS[0], text
        if split in sources:
            raise UserError(f"{text}: the split {split} stands twice; write SPLIT=SOURCE")
        sources[split] = Path(place)
    share, images, out = given["val_share"], given["images"], given["out"]
    if share is not None and set(sources) != {"train"}:
        raise UserError("--val_share parts one source; leave it out where there are splits")
    if share is not None and not 0 < share < 1:
        raise UserError(f"--val_share {share:g}: a share between 0 and 1 is wanted")
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images} is no folder")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out {out} exists; name a new folder")
    rules = Rules(
        images=images,
        names=_words(given["names"]) or None,
        background=given["background"],
        ignored=_words(given["ignore"]),
        clip=given["clip"],
        skip_missing=given["skip_missing"],
    )
    return Request(sources=sources, out=out, rules=rules, val_share=share, copy=given["copy"])


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def convert(request: Request) -> list[str]:
    """Read, check and write; the lines about it. UserError where nothing was written."""
    sources = {split: read_source(place) for split, place in request.sources.items()}
    ids = class_ids(list(sources.values()), request.rules)
    plans = {split: plan(source, ids, request.rules) for split, source in sources.items()}
    faults = [line for each in plans.values() for line in each.faults]
    if faults:
        for line in faults[:MAX_LINES]:
            print(line)
        more = f", {MAX_LINES} of them above" if len(faults) > MAX_LINES else ""
        raise UserError(f"{counted(len(faults), 'fault')}{more}: {faults[0]}; nothing was written")
    splits = {split: each.jobs for split, each in plans.items()}
    for split, jobs in splits.items():
        if not jobs:
            raise UserError(f"{request.sources[split]}: names no image; nothing was written")
    if request.val_share is not None:
        train, val = held_out(splits["train"], request.val_share)
        splits = {"train": train, "val": val}
    write_set(splits, ids, request)
    return [*_remarks(sources, plans, request), *_summary(request.out, splits, ids)]


def _remarks(
    sources: dict[str, Annotations], plans: dict[str, Plan], request: Request
) -> list[str]:
    lines = []
    for split, source in sources.items():
        if source.without_area:
            kinds = ", ".join(f"{count} {kind}" for kind, count in source.without_area.items())
            lines.append(f"{split}: {kinds}: without an area, not drawn")
        if plans[split].missing:
            lines.append(
                f"{split}: {counted(len(plans[split].missing), 'image')} missing, left out"
            )
        bare = sum(not job.picture.shapes for job in plans[split].jobs)
        if bare:
            name = request.rules.background or "ignored, --background NAME would make it a class"
            lines.append(f"{split}: {bare} images without any shape, all of them is {name}")
    return lines


def _summary(out: Path, splits: dict[str, list[Job]], ids: dict[str, int]) -> list[str]:
    counts = ", ".join(f"{split} {len(jobs)}" for split, jobs in splits.items())
    names = ", ".join(f"{number} {name}" for name, number in ids.items())
    return [
        f"{out}: images: {counts}",
        f"ids: {names}",
        f"python -m tools.check --dataset custom --set DATASET.CUSTOM_YAML={out / YAML}",
    ]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    description, text = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        prog="datasets.convert",
        description=description,
        epilog=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("source", nargs="+", metavar="[SPLIT=]SOURCE", help="file or folder; SPLIT is train else")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write, a new one")
    add("--images", type=Path, metavar="DIR", help="where the images are; else by the annotations")
    add("--names", default="", metavar="A,B,...", help="all classes, in the order of their ids")
    add("--background", metavar="NAME", help="class of the pixels without any shape, with id 0")
    add("--ignore", default="", metavar="A,...", help="labels whose regions are ignored (255)")
    add("--val_share", type=float, metavar="F", help="hold this share out for validation")
    add("--clip", action="store_true", help="cut off what lies outside of the image")
    add("--skip_missing", action="store_true", help="leave out listed images that are missing")
    add("--copy", action="store_true", help="copy the images instead of linking to them")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Convert; 0 done, 2 wrong input."""
    streams.tolerate()
    try:
        for line in convert(read_request(argv)):
            print(line)
    except (UserError, OSError) as error:
        return wrong_input(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
