# SPDX-License-Identifier: Apache-2.0
"""The worst images of every class: pictures, and the page topn_failures.html about them.

An image counts for a class by the pixels it gets wrong: false positives plus false negatives.
Evaluation streams; a rank keeps the pictures of an image on disk (`.topn/`) exactly as long as
the image is among its N worst of some class, so disk and memory stay bounded by N and the
number of classes. When all ranks are done, the N worst over all of them get their names:
{image}_{class}_{prediction|gt|input|err_mask|prob_mask}.png, sub-folders of images kept.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.spec import DatasetSpec
from metrics.result import Gather, ImageResult
from reports.files import encode_map, encode_png, grey, href
from reports.image_dump import error_mask
from reports.render import write_html
from reports.sinks import EveryImageSink, PagePart
from runtime.files import write_atomic
from runtime.names import inside, output, part

PAGE = "topn_failures.html"
STAGE, MANIFEST = ".topn", ".topn-files.json"
WORD_BYTES = 80  # of a class name inside a file name
KINDS = {  # in the order of the page
    "input": "input",
    "gt": "ground truth",
    "prediction": "prediction",
    "err_mask": "errors",
    "prob_mask": "confidence",
}


@dataclass(frozen=True, order=True)
class Failure:
    """One image among the worst of a class; the larger, the worse."""

    pixels: int  # false positives + false negatives
    later: int  # minus the position in the data set: of equally bad images the first one stays
    name: str


@dataclass(frozen=True, kw_only=True)
class StoredFailure:
    """One entry of the page: `files` maps a kind to a path relative to the page."""

    class_name: str
    name: str
    pixels: int
    files: dict[str, str]


class WorstSink(EveryImageSink):
    """Keeps, for each class, the pictures of the `count` images with the most wrong pixels.

    `assets` adds attention and single-scale maps. After `close`, `failures` holds the entries
    of all ranks, class by class, worst first; the files are there on every rank, the page is
    written by rank 0. Images of an earlier evaluation in `out_dir` are replaced.
    """

    def __init__(
        self, out_dir: Path, spec: DatasetSpec, count: int, *, assets: bool = False, rank: int = 0
    ) -> None:
        assert count >= 1
        self.out_dir, self.spec, self.count, self.assets = Path(out_dir), spec, count, assets
        self.stage = self.out_dir / STAGE / str(rank)
        shutil.rmtree(self.stage, ignore_errors=True)
        self.heaps: list[list[Failure]] = [[] for _ in spec.class_names]
        self._kinds: dict[str, list[str]] = {}  # staged image -> kinds of its pictures
        self.failures: list[StoredFailure] = []

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"image", "prob", "assets"} if self.assets else {"image", "prob"})

    def add(self, result: ImageResult) -> None:
        """Stage the pictures if the image is among the worst of a class so far."""
        if result.confusion is None:
            return
        hits = np.diag(result.confusion)
        wrong = result.confusion.sum(0) + result.confusion.sum(1) - 2 * hits
        mine = [
            (heap, Failure(pixels, -result.index, result.name))
            for heap, pixels in zip(self.heaps, wrong.tolist(), strict=True)
            if pixels
        ]
        mine = [(heap, own) for heap, own in mine if len(heap) < self.count or own > heap[0]]
        if not mine:
            return
        self._write(result)  # first: what cannot be written is not a candidate
        dropped = set()
        for heap, own in mine:
            if len(heap) < self.count:
                heapq.heappush(heap, own)
            else:
                dropped.add(heapq.heapreplace(heap, own).name)
        kept = {failure.name for heap in self.heaps for failure in heap}
        for name in dropped - kept:
            for kind in self._kinds.pop(name):
                self._staged(self.stage, name, kind).unlink()

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Choose the worst of all ranks; every rank names its own images, rank 0 the page."""
        everything = gather((str(self.stage), self.heaps, self._kinds))
        if rank == 0:
            self._remove_earlier()
        gather(None)  # no rank names a file that rank 0 may still remove
        chosen = self._choose(everything)
        own = [item for item in chosen if item[0] == str(self.stage)]
        for _, source_name, stored in own:
            for kind, file in stored.files.items():
                _link(self._staged(self.stage, source_name, kind), self.out_dir / file)
        self.failures = [stored for _, _, stored in chosen]
        gather(None)  # all files have their names
        if rank == 0:
            shutil.rmtree(self.out_dir / STAGE, ignore_errors=True)
            files = sorted(file for item in self.failures for file in item.files.values())
            write_atomic(self.out_dir / MANIFEST, json.dumps(files).encode())
            self._write_page()

    def page_part(self) -> PagePart:
        """A link to the page about them."""
        return PagePart(links={"Worst images of each class": PAGE})

    def report(self, protocol: Mapping[str, Any]) -> str:
        """Where that page is."""
        return f"worst images: {self.out_dir / PAGE}"

    def _write(self, result: ImageResult) -> None:
        """All pictures of one image, to the stage of this rank."""
        assert result.image is not None and result.label is not None and result.prob is not None
        palette = self.spec.flat_palette()
        errors = error_mask(result.pred, result.label, self.spec.num_classes)
        pictures = {
            "input": encode_png(result.image),
            "gt": encode_png(result.label, palette),
            "prediction": encode_png(result.pred, palette),
            "err_mask": encode_png(grey(errors)),
            "prob_mask": encode_png(grey(result.prob)),
        }
        for kind, values in sorted(result.assets.items()) if self.assets else ():
            pictures[kind] = encode_map(values, palette)
        for kind, content in pictures.items():
            write_atomic(self._staged(self.stage, result.name, kind), content)
        self._kinds[result.name] = list(pictures)

    @staticmethod
    def _staged(stage: Path, name: str, kind: str) -> Path:
        return stage / output(name, after=f"_{kind}.png")

    def _choose(
        self, everything: list[tuple[str, list[list[Failure]], dict[str, list[str]]]]
    ) -> list[tuple[str, str, StoredFailure]]:
        """(stage, image, entry) of the worst images over all ranks."""
        chosen = []
        words = class_words(self.spec.class_names)
        for number, class_name in enumerate(self.spec.class_names):
            rows = [
                (failure, stage, kinds[failure.name])
                for stage, heaps, kinds in everything
                for failure in heaps[number]
            ]
            for failure, stage, kinds in heapq.nlargest(self.count, rows, key=lambda row: row[0]):
                files = {
                    kind: str(output(failure.name, after=f"_{words[number]}_{kind}.png"))
                    for kind in kinds
                }
                stored = StoredFailure(
                    class_name=class_name, name=failure.name, pixels=failure.pixels, files=files
                )
                chosen.append((stage, failure.name, stored))
        return chosen

    def _remove_earlier(self) -> None:
        """Remove files of an earlier evaluation, which would look like results of this one."""
        manifest = self.out_dir / MANIFEST
        if manifest.exists():
            for file in _listed(manifest):
                with contextlib.suppress(OSError):
                    inside(self.out_dir, file).unlink(missing_ok=True)

    def _write_page(self) -> None:
        sections: dict[str, list[dict[str, object]]] = {}
        for item in self.failures:
            pictures = [
                {"name": KINDS.get(kind, kind.replace("_", " ")), "file": href(file)}
                for kind, file in item.files.items()
            ]
            entry = {"name": item.name, "pixels": item.pixels, "pictures": pictures}
            sections.setdefault(item.class_name, []).append(entry)
        colors = dict(zip(self.spec.class_names, self.spec.palette, strict=True))
        write_html(
            self.out_dir / PAGE,
            "worst.html.j2",
            title=f"Worst images of {self.spec.name}",
            subtitle="Images with the most wrong pixels (false positives and false negatives)",
            sections=[
                {"name": name, "color": "#{:02x}{:02x}{:02x}".format(*colors[name]), "rows": rows}
                for name, rows in sections.items()
            ],
        )


def class_words(names: tuple[str, ...]) -> list[str]:
    """Class names as parts of file names: blanks and signs become `_`, duplicates get their id.

    No two are alike, also where capitals do not count.
    """
    words = [part(re.sub(r"[^\w.-]+", "_", name), limit=WORD_BYTES) for name in names]
    plain = [word.casefold() for word in words]
    taken, found = set(plain), list[str]()
    for number, word in enumerate(words):
        if plain.count(plain[number]) > 1:
            word = f"{word}_{number}"
            while word.casefold() in taken:
                word += "_"
            taken.add(word.casefold())
        found.append(word)
    return found


def _listed(manifest: Path) -> list[str]:
    """The files that an earlier evaluation wrote; none if its list is damaged."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    names = content if isinstance(content, list) else []
    return [name for name in names if isinstance(name, str) and ".." not in name.split("/")]


def _link(source: Path, target: Path) -> None:
    """A second name for a finished file; a copy where the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_atomic(target, source.read_bytes())
