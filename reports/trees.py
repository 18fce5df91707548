# SPDX-License-Identifier: Apache-2.0
"""What tools take from a network: ids, scores, masks, colours and composites, each in its tree.

    ids/NAME.png            class ids, 8 bits, or 16 where an id is above 255
    scores/NAME.npz         probabilities (K, H, W), or (T, H, W) with the ids of T classes
    masks/CLASS/NAME.png    255 where the class is, else 0
    color/NAME.png          colours of the classes, palette image
    composite/NAME.png      the image under these colours
    manifest.jsonl          one line per image: its files, size, classes and mean confidence

Sub-folders of names are kept. Everything has the size of the image file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datasets.headers import item_size
from datasets.spec import DatasetSpec, Item
from metrics.result import Gather, ImageResult
from reports.files import encode_png
from reports.image_dump import composite
from reports.rawids import to_raw_ids, to_size
from reports.sinks import NEW_DUMP, DumpIdentity, ResumableSink
from reports.stored_images import ImageRow
from reports.worst import class_words
from reports.writers import Writers
from runtime.errors import UserError, near
from runtime.files import write_atomic
from runtime.limits import counted
from runtime.names import output

MANIFEST = "manifest.jsonl"
COUNTED_ROWS = 256
LISTED = 20  # classes that an error names
NPZ_LEVEL = 1  # zlib level: probabilities are mostly noise

Ids = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """Which trees there are. ids: "train" or "raw"; masks: class ids, which grow by `dilate`
    pixels."""

    ids: str | None = None
    scores: bool = False
    top: int = 0
    masks: tuple[int, ...] = ()
    dilate: int = 0
    color: bool = False
    composite: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """What is read of a result, see `Sink`; the confidence is for the manifest."""
        wanted = {"confidence": True, "image": self.composite, "scores": self.scores}
        return frozenset(name for name, is_on in wanted.items() if is_on)

    def endings(self, spec: DatasetSpec) -> dict[str, str]:
        """Folder -> ending of its files, in the order of the manifest."""
        words = class_words(spec.class_names)
        wanted = {
            "ids": (".png", self.ids is not None),
            "scores": (".npz", self.scores),
            **{f"masks/{words[number]}": (".png", True) for number in self.masks},
            "color": (".png", self.color),
            "composite": (".png", self.composite),
        }
        return {folder: end for folder, (end, is_on) in wanted.items() if is_on}


def class_ids(text: str, spec: DatasetSpec) -> tuple[int, ...]:
    """The ids of a comma list of class names, each once; UserError for an unknown one.

    Capitals do not count, and `_` stands for a blank; names may hold commas themselves.
    """
    known = {_plain(name): number for number, name in reversed(list(enumerate(spec.class_names)))}
    parts, found, first = text.split(","), list[int](), 0
    while first < len(parts):
        stops = range(len(parts), first, -1)
        names = {stop: _plain(",".join(parts[first:stop])) for stop in stops}
        stop = next((stop for stop, name in names.items() if name in known), 0)
        if not stop:
            name = parts[first].strip()
            alike = near(_plain(name), known, cutoff=0.5)
            more = ", ..." if spec.num_classes > LISTED else ""
            shown = alike or f"; they are {', '.join(spec.class_names[:LISTED])}{more}"
            raise UserError(f"--dump_masks: {spec.name} has no class {name}{shown}")
        found.append(known[names[stop]])
        first = stop
    return tuple(dict.fromkeys(found))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


@dataclass(frozen=True, kw_only=True)
class TreeJob:
    """One image on its way to the files of all trees, `files` below `out_dir` by folder.

    pred: (H, W) train ids. ids: those that are written. image, scores, score_ids: None where no
    tree needs them.
    """

    out_dir: Path
    files: dict[str, str]
    plan: TreePlan
    names: tuple[str, ...]
    palette: list[int] = field(repr=False)
    pred: npt.NDArray[np.uint8]
    ids: Ids | None = None
    image: npt.NDArray[np.uint8] | None = None
    scores: npt.NDArray[np.float16] | None = None
    score_ids: npt.NDArray[np.uint8] | None = None

    def run(self) -> dict[str, float]:
        """Write all files; the share of every class that was found, by its id."""
        masks = iter(self.plan.masks)
        for folder, file in self.files.items():
            write_atomic(self.out_dir / file, self._content(folder, masks))
        counts = class_counts(self.pred)
        return {str(key): round(count / self.pred.size, 6) for key, count in counts.items()}

    def _content(self, folder: str, masks: Any) -> bytes:
        if folder == "ids":
            assert self.ids is not None
            return encode_png(self.ids)
        if folder == "scores":
            assert self.scores is not None
            return encode_scores(self.scores, self.score_ids, self.names)
        if folder == "color":
            return encode_png(self.pred, self.palette)
        if folder == "composite":
            assert self.image is not None
            return encode_png(composite(self.image, self.pred, self.palette))
        return encode_png(mask_of(self.pred, next(masks), self.plan.dilate))


def class_counts(pred: npt.NDArray[np.uint8]) -> dict[int, int]:
    """Pixels of every class found in (H, W), by rising id; some rows at a time, because NumPy
    makes 8 bytes of every pixel that it counts."""
    counts = np.zeros(256, np.int64)
    for first in range(0, len(pred), COUNTED_ROWS):
        counts += np.bincount(pred[first : first + COUNTED_ROWS].ravel(), minlength=256)
    return {number: int(counts[number]) for number in np.flatnonzero(counts).tolist()}


def mask_of(pred: npt.NDArray[np.uint8], number: int, dilate: int) -> npt.NDArray[np.uint8]:
    """255 where the class is, or is at most `dilate` pixels away, else 0; (H, W)."""
    mask = pred == number
    if dilate and mask.any():
        away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        mask = np.asarray(away) <= dilate
    return mask.astype(np.uint8) * np.uint8(255)


def encode_scores(
    scores: npt.NDArray[np.float16],
    ids: npt.NDArray[np.uint8] | None,
    names: Sequence[str],
) -> bytes:
    """A compressed .npz of `scores` (T, H, W), `classes` (K,) names, and `ids` where they count."""
    arrays = {"scores": scores, "classes": np.array(list(names))}
    if ids is not None:
        arrays["ids"] = ids
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=NPZ_LEVEL) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


class TreeWriter:
    """Makes the jobs of images; `done(shares, facts)` is called when the files are there."""

    def __init__(self, out_dir: Path, spec: DatasetSpec, plan: TreePlan, writers: Writers) -> None:
        self.out_dir, self.spec, self.plan, self.writers = Path(out_dir), spec, plan, writers
        self.endings = plan.endings(spec)
        self.palette = spec.flat_palette()
        if plan.ids == "raw":
            spec.inverse_lut()  # fails at once if ids cannot be written

    def files(self, name: str, cut: Callable[..., object] = output) -> dict[str, str]:
        """Folder -> path below `out_dir` of the files about the image `name`, cut to length."""
        return {folder: f"{folder}/{cut(name, after=end)}" for folder, end in self.endings.items()}

    def submit(
        self, result: ImageResult, files: dict[str, str], size: tuple[int, int], facts: Any
    ) -> None:
        """Have the `files` of one image written at `size` (H, W)."""
        name = result.name
        pred = to_size(result.pred, size, name)
        scores, score_ids = _all_to_size(result.scores, size, name), None
        if result.score_ids is not None:
            score_ids = _all_to_size(result.score_ids, size, name)
        image = result.image if self.plan.composite else None
        if image is not None and image.shape[:2] != size:
            image = np.asarray(
                cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8
            )
        ids = to_raw_ids(pred, self.spec) if self.plan.ids == "raw" else pred
        job = TreeJob(
            out_dir=self.out_dir,
            files=files,
            plan=self.plan,
            names=self.spec.class_names,
            palette=self.palette,
            pred=pred,
            ids=ids if self.plan.ids else None,
            image=image,
            scores=scores,
            score_ids=score_ids,
        )
        self.writers.submit(job, name, facts)


def _all_to_size(
    maps: npt.NDArray[Any] | None, size: tuple[int, int], name: str
) -> npt.NDArray[Any] | None:
    """Every map of (T, H, W) at `size`."""
    if maps is None or maps.shape[1:] == size:
        return maps
    if maps.dtype != np.float16:
        return np.stack([to_size(values, size, name) for values in maps])
    wide = (to_size(values.astype(np.float32), size, name) for values in maps)
    return np.stack([values.astype(np.float16) for values in wide])


class TreeSink(ResumableSink):
    """Writes the trees of `plan` below `out_dir`, and the manifest when all images are there.

    `items` are the images of the data set; `workers` processes encode and write while the network
    goes on.
    """

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        plan: TreePlan,
        identity: DumpIdentity = NEW_DUMP,
        *,
        workers: int = 0,
    ) -> None:
        if identity.key:  # other trees are another dump
            identity = replace(identity, key=f"{identity.key} {json.dumps(asdict(plan))}")
        super().__init__(out_dir, spec, "trees", identity)
        self.plan, self.images = plan, {item.name: item for item in items}
        self.videos: list[str] = []  # lines of the manifest about videos
        self.writers = Writers(workers, self._note)
        self.trees = TreeWriter(self.out_dir, spec, plan, self.writers)
        if identity.rank == 0 and not self.stored.rows:
            (self.out_dir / MANIFEST).unlink(missing_ok=True)  # it is about other files
        if any(not self.done(item.name) for item in items):
            self.writers.start()

    @property
    def needs(self) -> frozenset[str]:
        return self.plan.needs

    def add(self, result: ImageResult) -> None:
        """Have the files of one image written, then note it as stored."""
        assert result.confidence is not None
        size = item_size(self.images[result.name])
        files = self.trees.files(result.name, self.file)
        row = ImageRow(
            name=result.name,
            index=result.index,
            size=size,
            files=files,
            facts={"confidence": round(result.confidence, 6)},
        )
        self.trees.submit(result, files, size, row)

    def _note(self, shares: dict[str, float], row: ImageRow) -> None:
        self.stored.add(replace(row, facts={**row.facts, "classes": shares}))

    def close(self, rank: int, world: int, gather: Gather) -> list[tuple[str, Exception]]:
        """Wait for the writers and collect the rows of all ranks; what could not be written."""
        failed = self.writers.finish()
        super().close(rank, world, gather)
        return failed

    def report(self, protocol: Mapping[str, Any]) -> str:
        """Write the manifest; where it is."""
        path = self.out_dir / MANIFEST
        lines = [manifest_line(row, self.images[row.name], self.spec) for row in self.rows]
        write_atomic(path, "".join([*lines, *self.videos]).encode())
        return f"{', '.join(self.trees.endings)}: {path} lists {counted(len(lines), 'image')}" + (
            f" and {counted(len(self.videos), 'video')}" if self.videos else ""
        )


def manifest_line(row: ImageRow, item: Item, spec: DatasetSpec) -> str:
    """One line of the manifest, JSON; bytes of names that are not UTF-8 are escaped.

    A video has its number of frames, `fps` and, if it is damaged, the reason.
    """
    shares = row.facts["classes"].items()
    own = {key: row.facts[key] for key in ("frames", "fps", "damage") if row.facts.get(key)}
    content = {
        "file": str(item.image),
        "name": row.name,
        "height": row.size[0],
        "width": row.size[1],
        **own,
        "classes": {spec.class_names[int(number)]: share for number, share in shares},
        "confidence": row.facts["confidence"],
        "files": row.files,
    }
    return json.dumps(content) + "\n"
