# SPDX-License-Identifier: Apache-2.0
"""Benchmark submission: submit/{name}.png with raw label ids, checked, then submission.zip.

File names are the base names of the images, as the servers expect them, without sub-folders:
`{city}_{sequence}_{frame}*.png` of raw ids for Cityscapes, `ADE_test_{number}.png` of 1..150 for
ADE20K. PASCAL-Context has no server; its files, `{year}_{number}.png`, hold ids as its labels do.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from datasets.headers import item_size
from datasets.spec import DatasetSpec, Item
from datasets.table import TABLE
from metrics.result import ImageResult
from reports.files import encode_png
from reports.rawids import to_raw_ids, to_size
from reports.sinks import NEW_DUMP, DumpIdentity, ResumableSink
from reports.stored_images import ImageRow
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.limits import counted
from runtime.names import output, printable, relative

SUBMIT = "submit"  # folder of the files
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that equal predictions give equal archives
NUM_LISTED = 5


class SubmissionSink(ResumableSink):
    """Writes the raw ids of every image under `out_dir`/submit; `finish` checks and zips.

    `items` are the images of the split. UserError if two of them would share a file name, or if the
    server does not accept a name.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        identity: DumpIdentity = NEW_DUMP,
    ) -> None:
        super().__init__(out_dir, spec, "submission", identity, SUBMIT)
        self.directory = self.out_dir / SUBMIT
        self.images = {item.name: item for item in items}
        self.table = spec.inverse_lut()
        _check_names(sorted(map(file_name, self.images)), "" if spec.custom else spec.name)

    def add(self, result: ImageResult) -> None:
        """Write one image, then note it as stored."""
        size = item_size(self.images[result.name])
        ids = to_size(to_raw_ids(result.pred, self.spec), size, result.name)
        files = {"ids": self.file(relative(result.name).name, after=".png")}
        write_atomic(self.directory / files["ids"], encode_png(ids))
        self.stored.add(ImageRow(name=result.name, index=result.index, size=size, files=files))

    def report(self, protocol: Mapping[str, Any]) -> str:
        """Check and zip; where the archive is."""
        return f"submission: {self.finish()}"

    def finish(self) -> Path:
        """Check every file and write submission.zip; call it on one rank, after `close`.

        Raises UserError, and writes nothing, if files are missing, unexpected, of another
        size or type, or hold ids the server does not know.
        """
        problems = self.check()
        if problems:
            raise UserError("submission: " + "; ".join(problems) + "; nothing was zipped")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(map(file_name, self.images)):
                info = zipfile.ZipInfo(printable(name), ZIP_DATE)
                info.external_attr = 0o644 << 16
                archive.writestr(info, (self.directory / name).read_bytes())
        path = self.out_dir / "submission.zip"
        write_atomic(path, buffer.getvalue())
        return path

    def check(self) -> list[str]:
        """What is wrong with the files of submit/, one text per kind of problem."""
        expected = {file_name(name): image for name, image in self.images.items()}
        present = {path.name for path in self.directory.glob("*") if path.name[0] != "."}
        missing, extra = sorted(expected.keys() - present), sorted(present - expected.keys())
        problems = []
        if missing:
            problems.append(
                f"{len(missing)} of {counted(len(expected), 'file')} missing: {_listed(missing)}"
            )
        if extra:
            text = f"{counted(len(extra), 'file')} of no image, to be removed: {_listed(extra)}"
            problems.append(text)
        faults = [
            f"{name} {fault}"
            for name in sorted(expected.keys() & present)
            if (fault := self._fault(self.directory / name, expected[name]))
        ]
        if faults:
            problems.append(f"{counted(len(faults), 'file')} wrong: {_listed(faults)}")
        return problems

    def _fault(self, path: Path, image: Item) -> str:
        """What is wrong with one file, or an empty text."""
        try:
            with Image.open(path) as picture:
                mode, pixels = picture.mode, np.asarray(picture)
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            return f"cannot be read ({error})"
        bits = 8 * self.table.itemsize
        if pixels.dtype != self.table.dtype or mode not in ("L", "I;16"):
            return f"has mode {mode}, {bits}-bit grey wanted"
        if pixels.shape != (size := item_size(image)):
            height, width = size
            return f"is {pixels.shape[1]}x{pixels.shape[0]}, the image {width}x{height}"
        counts = np.bincount(pixels.ravel(), minlength=1 << bits)
        counts[list(self.spec.train_id_to_id)] = 0
        unknown = np.flatnonzero(counts)
        return f"holds id {unknown[0]}, unknown to {self.spec.name}" if unknown.size else ""


def file_name(name: str) -> str:
    """The name the server sees: the base name of the image."""
    return str(output(relative(name).name, after=".png"))


def _check_names(names: Sequence[str], dataset: str) -> None:
    """UserError for sorted file names that repeat, or that the server does not accept."""
    twice = sorted({name for name, after in pairwise(names) if name == after})
    if twice:
        raise UserError(f"submission: several images would be written to {_listed(twice)}")
    row = TABLE.get(dataset)
    pattern, example = row.server_files if row and row.server_files else (".*", "")
    odd = [name for name in names if not re.fullmatch(pattern, name)]
    if odd:
        raise UserError(f"submission: {dataset} wants names like {example}, not {_listed(odd)}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_LISTED} more" if len(names) > NUM_LISTED else ""
    return ", ".join(names[:NUM_LISTED]) + more
