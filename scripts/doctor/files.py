# SPDX-License-Identifier: Apache-2.0
"""Settings of this machine, its data sets, and the places that a run writes to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import UserError
from runtime.memory import size_text
from scripts.doctor.finding import FAIL, OK, WARN, Found, at_least

if TYPE_CHECKING:
    from settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
SETUP = "python -m scripts.setup_local writes it"
GIB = 2**30


def read() -> Settings:
    """The settings of paths.yml and the environment; UserError for wrong ones."""
    from settings import read_settings

    return read_settings([])


def settings() -> Iterator[Found]:
    """paths.yml and the variables HISEG_..."""
    from settings.sources import ENV_PREFIX, PATHS_FILE

    names = sorted(name for name in os.environ if name.startswith(ENV_PREFIX))
    variables = f"; {', '.join(names)}" if names else ""
    try:
        read()
    except UserError as error:
        yield FAIL, str(error), "correct it"
        return
    place = ROOT / PATHS_FILE
    where = f"{place}" if place.exists() else f"no {place}, {SETUP}"
    yield OK, where + variables


def runx() -> Iterator[Found]:
    """.runx, without which no recipe starts."""
    import yaml

    place = ROOT / ".runx"
    if not place.exists():
        yield WARN, "no .runx: plain commands work, recipes do not", SETUP
        return
    try:
        content = yaml.safe_load(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield (
            FAIL,
            f"{place}: {' '.join(str(error).split())}",
            "python -m scripts.setup_local --force",
        )
        return
    logroot = content.get("LOGROOT") if isinstance(content, dict) else None
    if not isinstance(logroot, str) or not Path(logroot).is_absolute():
        way = "python -m scripts.setup_local --force --logroot DIR"
        yield FAIL, f"{place}: LOGROOT is {logroot!r}, an absolute folder is needed", way
        return
    yield from _place("LOGROOT of .runx", Path(logroot))


def data() -> Iterator[Found]:
    """Every root that is set: there, and with the files of its splits."""
    from datasets.places import mounted
    from datasets.table import CLASS_FOLDERS, ROWS

    own, unset = read(), []
    for row in ROWS:
        if row.root is None:
            continue
        value = own.DATASET.root(row.root.key)
        if not value:
            unset.append(row.root.key)
            continue
        try:
            place = mounted(Path(own.expand(value)), beside=False)
        except UserError as error:
            yield FAIL, f"{row.name}: {error}"
            continue
        if not place.exists():
            text = f"{row.name}: DATASET.{row.root.key} is {place}, which is not there"
            is_default = row.name == "synthetic"
            way = "python -m datasets.synthetic data/synthetic writes it" if is_default else ""
            yield (WARN if is_default else FAIL), text, way or f"correct it in paths.yml ({SETUP})"
        elif row.kind == CLASS_FOLDERS:
            yield _class_folders(own, row.name, place)
        else:
            yield from _splits(own, row.name, place)
    if unset:
        yield OK, f"not set: {', '.join(dict.fromkeys(unset))}"


def _class_folders(own: Settings, name: str, place: Path) -> Found:
    """Whether training and validation have a folder, or an archive."""
    from assembly.dataset import has_split
    from settings.catalogue import with_values

    one = with_values(own, {"dataset": name})
    try:
        missing = [split for split in ("train", "val") if not has_split(one, split)]
    except UserError as error:
        return FAIL, f"{name}: {error}"
    what = f"has no {', '.join(missing)}" if missing else "has its folders"
    return FAIL if missing else OK, f"{name}: {place} {what}"


def _splits(own: Settings, name: str, place: Path) -> Iterator[Found]:
    """How many images training and validation have; their files are not opened."""
    from assembly.dataset import split_items
    from settings.catalogue import with_values

    counts = []
    for split in ("train", "val"):
        try:
            counts.append(f"{split} {len(split_items(with_values(own, {'dataset': name}), split))}")
        except UserError as error:
            yield FAIL, f"{name}: {error}", f"python -m tools.check --dataset {name}"
            return
    yield OK, f"{name}: {place}: {', '.join(counts)} images"


def writing() -> Iterator[Found]:
    """Where runs, weights and caches go."""
    own = read()
    places = {
        "--result_dir": Path(own.run.result_dir),
        "ASSETS_PATH": Path(own.ASSETS_PATH),
        "cache of torch": Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch"),
        "temporary files": Path(tempfile.gettempdir()),
    }
    if own.DATASET.CACHE_DIR:
        places["--cache_dir"] = Path(own.expand(own.DATASET.CACHE_DIR))
    for name, place in places.items():
        yield from _place(name, place)


def _place(name: str, place: Path) -> Iterator[Found]:
    """Whether a file can be written in a folder, or in the first one above it that exists."""
    folder = place.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    shown = f"{name}: {place}" + ("" if folder == place.absolute() else " (not there yet)")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield FAIL, f"{shown}: cannot be written: {error.strerror}", "name another, or its owner"
        return
    level = at_least(free, 10 * GIB, GIB)
    yield level, f"{shown}: {size_text(free)} free", "" if level == OK else "free some space"
