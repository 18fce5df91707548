# SPDX-License-Identifier: Apache-2.0
"""image_scores.npz: what an evaluation counted in each image, for comparisons of the same images.

    facts    JSON: "format", "class_names", "palette", "names" of the images, and what the
             evaluation says about itself: "epoch" and "iteration" of a validation, "not_finite"
    starts, cells, pixels      see `ImageCounts`

Images without a label, and those that could not be read, are not in it.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from datasets.spec import Color, DatasetSpec
from metrics.image_counts import ImageCounts, ImageEntries
from metrics.result import Gather, ImageResult
from reports.sinks import EveryImageSink
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.names import relative

FILE, LAST_FILE = "image_scores.npz", "last_image_scores.npz"  # a training has both
FORMAT = "hiseg-image-scores-1"
DAMAGE = (ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError,
          zipfile.BadZipFile, zlib.error)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """The content of a file."""

    counts: ImageCounts
    palette: tuple[Color, ...]
    facts: Mapping[str, Any]


class ImageScoresSink(EveryImageSink):
    """Keeps the counts of every labelled image; after `close`, `counts` covers all ranks."""

    needs: frozenset[str] = frozenset()

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self._images: dict[int, ImageEntries] = {}
        self.counts = ImageCounts.of(spec.class_names, {})

    def add(self, result: ImageResult) -> None:
        """Keep what was counted in one image."""
        if result.confusion is not None:
            self._images[result.index] = ImageEntries.of(result.name, result.confusion)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Collect the images of all ranks."""
        for part in gather(self._images):
            self._images |= part
        self.counts = ImageCounts.of(self.spec.class_names, self._images)

    def write(self, path: Path, **facts: Any) -> None:
        """Write the file; of an evaluation without any label remove an earlier one."""
        if not self.counts.names:
            path.unlink(missing_ok=True)
            return
        write_image_scores(
            path, ImageScores(counts=self.counts, palette=self.spec.palette, facts=facts)
        )


def write_image_scores(path: Path, scores: ImageScores) -> None:
    """Write the file whole or not at all."""
    counts = scores.counts
    facts = {
        "format": FORMAT,
        "class_names": counts.class_names,
        "palette": scores.palette,
        "names": counts.names,
        **scores.facts,
    }
    header = np.frombuffer(json.dumps(facts).encode(), np.uint8)

    def write(file: BinaryIO) -> None:
        np.savez_compressed(
            file, facts=header, starts=counts.starts, cells=counts.cells, pixels=counts.pixels
        )

    write_atomic(path, write)


def read_image_scores(path: Path) -> ImageScores:
    """The content of a file; UserError for one that is damaged or none of this kind."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            facts = json.loads(arrays["facts"].tobytes())
            counts = ImageCounts(
                class_names=tuple(map(str, facts.pop("class_names"))),
                names=tuple(map(str, facts.pop("names"))),
                starts=arrays["starts"].astype(np.int64),
                cells=arrays["cells"].astype(np.uint32),
                pixels=arrays["pixels"].astype(np.int64),
            )
        palette = tuple((int(r), int(g), int(b)) for r, g, b in facts.pop("palette"))
        is_whole = facts.pop("format") == FORMAT and _is_sound(counts, len(palette))
        for name in counts.names:
            relative(name)  # OutsideError for a name that leads out of a folder
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except DAMAGE:
        is_whole = False
    if not is_whole:
        raise UserError(f"{path} is damaged, or of another version: evaluate again")
    return ImageScores(counts=counts, palette=palette, facts=facts)


def _is_sound(counts: ImageCounts, colors: int) -> bool:
    """Whether the arrays fit together, so that no reader need ask again."""
    starts, classes, images = counts.starts, len(counts.class_names), len(counts.names)
    return bool(
        classes == colors > 0
        and 0 < images == len(set(counts.names)) == len(starts) - 1
        and starts[0] == 0
        and (np.diff(starts) >= 0).all()
        and starts[-1] == len(counts.cells) == len(counts.pixels)
        and (counts.cells < classes * classes).all()
        and (counts.pixels > 0).all()
    )
