# SPDX-License-Identifier: Apache-2.0
"""What is to be drawn: images that exist, shapes that lie inside them, classes that are known.

Everything is checked before anything is written, and every fault is a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from datasets.annotations.contract import Annotations, Picture
from datasets.annotations.drawing import outside
from datasets.base import DataError
from datasets.headers import image_size, size_text
from datasets.spec import IGNORE
from runtime.errors import near
from runtime.names import OutsideError, relative

MAX_CLASSES = IGNORE  # train ids have 8 bits, and one of them is the ignore label


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the user asked for.

    names: all classes, in the order of their ids; None: those of the source. background: class of
    the pixels without any shape, which gets id 0; None: they are ignored. ignored: labels whose
    regions are ignored. clip: shapes may leave the image. skip_missing: so may images the folder.
    """

    images: Path | None = None
    names: tuple[str, ...] | None = None
    background: str | None = None
    ignored: tuple[str, ...] = ()
    clip: bool = False
    skip_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One label to draw: `name` is the path of image and label in their folders, without ending."""

    picture: Picture
    image: Path
    name: PurePosixPath
    size: tuple[int, int]


@dataclass(kw_only=True)
class Plan:
    """The labels of one split, and what is wrong with it."""

    jobs: list[Job] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def class_ids(sources: Sequence[Annotations], rules: Rules) -> dict[str, int]:
    """Label -> id in the files: classes 0, 1, ... in their order, IGNORE for ignored labels.

    DataError for classes of which no set can be made.
    """
    found = [name for source in sources for name in source.classes]
    names = list(dict.fromkeys(found if rules.names is None else rules.names))
    names = [name for name in names if name not in rules.ignored]
    if rules.background is not None:
        names = [rules.background, *(name for name in names if name != rules.background)]
    if len(names) < 2:
        way = "" if rules.background else "; --background NAME makes one of the pixels around it"
        only = f"one class, {names[0]}" if names else "no class"
        raise DataError(f"there is {only}, at least two are needed{way}")
    if len(names) > MAX_CLASSES:
        raise DataError(f"there are {len(names)} classes, at most {MAX_CLASSES} are possible")
    return {**{name: number for number, name in enumerate(names)},
            **dict.fromkeys(rules.ignored, IGNORE)}  # fmt: skip


def plan(source: Annotations, ids: Mapping[str, int], rules: Rules) -> Plan:
    """The labels of a source; nothing is read but the headers of its images."""
    found = Plan(faults=list(source.faults))
    taken: dict[PurePosixPath, str] = {}
    for picture in source.pictures:
        line = f"{picture.source}: {picture.file}"
        image = _locate(picture, rules.images)
        if image is None:
            found.missing.append(f"{line}: there is no such image{_searched(rules.images)}")
            continue
        try:
            size = image_size(image)
            name = relative(image.name if _leads_out(picture.file) else picture.file)
        except (DataError, OutsideError) as error:
            found.faults.append(f"{line}: {error}")
            continue
        name = name.with_suffix("")
        if name in taken:
            found.faults.append(f"{line}: its label would replace that of {taken[name]}")
            continue
        taken[name] = picture.file
        if picture.size is not None and picture.size != size:
            found.faults.append(
                f"{line}: is annotated at {size_text(*picture.size)}, {image} has "
                f"{size_text(*size)}"
            )
            continue
        found.faults += [f"{line}: {fault}" for fault in _shape_faults(picture, ids, size, rules)]
        found.jobs.append(Job(picture=picture, image=image, name=name, size=size))
    if not rules.skip_missing:
        found.faults += found.missing
    return found


def _leads_out(file: str) -> bool:
    """Whether a path leaves its folder: then the name of the image alone counts."""
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts


def _searched(images: Path | None) -> str:
    return "; --images DIR says where they are" if images is None else f" in {images}"


def _locate(picture: Picture, images: Path | None) -> Path | None:
    """The file of an image: below the folder of images, or beside the annotations without one."""
    folders = picture.near if images is None else (images,)
    for folder in folders:
        for name in (picture.file, PurePosixPath(picture.file).name):
            try:
                if name and (folder / name).is_file():
                    return folder / name
            except (OSError, ValueError):  # no name that a file can have
                continue
    return None


def _shape_faults(
    picture: Picture, ids: Mapping[str, int], size: tuple[int, int], rules: Rules
) -> list[str]:
    faults = []
    for shape in picture.shapes:
        if shape.label not in ids:
            known = near(shape.label, ids)
            faults.append(f"{shape.where}: {shape.label!r} is none of --names{known}")
        place = "" if rules.clip else outside(shape, *size)
        if place:
            faults.append(
                f"{shape.where}: {place} lies outside of the image ({size_text(*size)}); --clip "
                "cuts it off"
            )
    return faults
