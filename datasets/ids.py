# SPDX-License-Identifier: Apache-2.0
"""Label files: raw ids as they are stored, and the train ids that a data set makes of them.

A label is read as it is stored: an orientation in its header is never obeyed, in any format,
because tools that write one copy it from the image and leave the pixels alone.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets import autolabel
from datasets.decode import FAILURES, Picture, as_stored, read_bytes
from datasets.headers import (
    DataError,
    Header,
    header_of,
    read_header,
    reason,
    size_text,
)
from datasets.png_header import has_sound_chunks
from datasets.spec import NUM_RAW_IDS, UNKNOWN, DatasetSpec, Item
from runtime.limits import counted

Ids = npt.NDArray[np.int64] | Picture

ID_MODES = {"L", "P", "1", "I", "I;16", "I;16B", "I;16L", "I;16N"}
NUM_LISTED = 5
MAX_TABLE = 1 << 17  # size of the lookup table of ids; wider maps are searched
JPEG2000_STARTS = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
CODING_STYLE, SAMPLE_DATA = b"\xff\x52", b"\xff\x90"  # markers of JPEG 2000: COD, SOT
LOSSY_WAVELET = 0  # the 9-7 filter; 1 is the reversible one
TIFF_JPEG = (6, 7)


def read_ids(path: Path, spec: DatasetSpec | None = None) -> Ids:
    """The raw ids of a label file, (H, W) uint8 or wider; palette files give their indices.

    Grey of 1, 2 and 4 bits gives the numbers that are stored. With a `spec` whose labels hold
    colours, the ids of these colours.
    Raises DataError for a missing or broken file, one in a lossy format, one with colours instead
    of ids, and colours that `spec` does not know.
    """
    data = read_bytes(path, "label")
    header = header_of(data, path, "label")
    if lossy := lossy_format(data, header):
        raise DataError(
            f"{path}: label is {lossy}, which changes ids at the borders of classes; "
            "export the labels again as PNG (a copy of this file keeps its damage)"
        )
    in_colors = spec is not None and spec.color_to_id is not None
    if not in_colors and (grey := _grey_png(data, header)) is not None:
        return grey
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            pixels = as_stored(image, "RGB" if in_colors else "")
    except FAILURES as error:
        raise DataError(f"{path}: label cannot be read: {reason(error, data[:16])}") from error
    if spec is not None and in_colors:
        return _ids_of_colors(path, pixels, header, spec)
    if mode not in ID_MODES:
        raise DataError(f"{path}: label {_not_ids(mode)}")
    values = _as_typed(pixels, header)
    return values if values.dtype == np.uint8 else values.astype(np.int64)


def _grey_png(data: bytes, header: Header) -> Picture | None:
    """A sound PNG of one byte per pixel, which OpenCV decodes in half the time; None for others."""
    is_plain = header.format == "PNG" and header.bits == 8 and header.bands == 1
    if not is_plain or header.is_palette or not has_sound_chunks(data):
        return None
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.shape != (header.height, header.width):
        return None
    return np.asarray(decoded, np.uint8)


def _not_ids(mode: str) -> str:
    """Why a label of this Pillow mode holds no ids."""
    if mode == "F":
        return "holds floating point numbers, not class ids; store whole numbers"
    return (
        f"is an image with colours (mode {mode}), not class ids in one channel; convert the "
        "colours to ids first, or name them under colors: in the YAML of a custom set"
    )


def _as_typed(values: npt.NDArray[Any], header: Header) -> npt.NDArray[Any]:
    """The numbers of the file: Pillow scales grey of few bits and mixes up signed and unsigned."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if header.is_low_grey:
        return values // np.uint8(255 // ((1 << header.bits) - 1))
    if (header.kind, header.bits) == ("int", 8):
        return values.view(np.int8)
    if (header.kind, header.bits) == ("uint", 32) and values.dtype == np.int32:
        return values.view(np.uint32)
    return values


def lossy_format(data: bytes, header: Header) -> str:
    """The name of the lossy format of a file, or an empty text.

    A JPEG 2000 of the reversible wavelet may have been cut to a size, which no header tells.
    """
    if header.format in ("JPEG", "MPO", "AVIF"):
        return "JPEG" if header.format == "MPO" else header.format
    if header.format == "TIFF" and header.compression in TIFF_JPEG:
        return "a TIFF with JPEG compression"
    if header.format == "WEBP":
        return "lossy WebP" if b"VP8 " in _chunk_names(data) else ""
    if data.startswith(JPEG2000_STARTS):
        at = data.find(CODING_STYLE, 0, max(data.find(SAMPLE_DATA), 0))
        if at >= 0 and data[at + 13 : at + 14] == bytes([LOSSY_WAVELET]):
            return "lossy JPEG 2000"
    return ""


def _chunk_names(data: bytes) -> set[bytes]:
    """Names of the chunks of a WebP, those inside frames included."""
    names, at = set(), 12
    while at + 8 <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        names.add(name)
        at += 8 + (16 if name == b"ANMF" else length + length % 2)
    return names


def _ids_of_colors(path: Path, pixels: Picture, header: Header, spec: DatasetSpec) -> Ids:
    """Each pixel's colour looked up in `spec.color_to_id`; DataError for others if all count."""
    assert spec.color_to_id is not None
    if header.bits > 8:
        raise DataError(f"{path}: label has {header.bits} bits, colours of 8 bits wanted")
    wide = pixels.astype(np.int32)
    packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    known = sorted(((r << 16) | (g << 8) | b, raw) for (r, g, b), raw in spec.color_to_id.items())
    codes = np.array([code for code, _ in known], np.int32)
    ids = np.array([raw for _, raw in known], np.int64)
    place = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    is_known = codes[place] == packed
    if spec.exact_colors and not is_known.all():
        colors, counts = np.unique(packed[~is_known], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        found = [(f"#{colors[at]:06x}", int(counts[at])) for at in order]
        text = _listed("colour", found)
        raise DataError(f"{path}: label {text} not in the colors of {spec.name}")
    values = np.where(is_known, ids[place], spec.ignore_label)
    fits = values.min(initial=0) >= 0 and values.max(initial=0) < NUM_RAW_IDS
    return values.astype(np.uint8) if fits else values


def _listed(what: str, found: list[tuple[str, int]]) -> str:
    """Values with their numbers of pixels, the first few of them."""
    listed = ", ".join(
        f"{value} ({counted(count, 'pixel')})" for value, count in found[:NUM_LISTED]
    )
    more = f" and {len(found) - NUM_LISTED} more" if len(found) > NUM_LISTED else ""
    return f"{what}{'s' if len(found) > 1 else ''} {listed}{more}"


def read_label(path: Path, spec: DatasetSpec) -> Picture:
    """A label as uint8 (H, W) train ids.

    Raises DataError for a file that cannot be read, and for ids that `spec` does not know,
    naming the file, each id and its number of pixels.
    """
    ids = read_ids(path, spec)
    mapped = map_ids(ids, spec)
    if mapped is None:
        raise DataError(unknown_ids_text(path, ids, spec))
    return mapped


def read_item_label(item: Item, spec: DatasetSpec) -> Picture:
    """The label of `item` as uint8 (H, W) train ids; of auto labels, after their rules.

    Raises DataError as `read_label`, and for files of one item that differ in size.
    """
    assert item.label is not None
    auto = item.auto
    if auto is None:
        return read_label(item.label, spec)
    ids = _known_ids(item.label, spec)
    prob = None if auto.prob is None else _known_ids(auto.prob, None)
    coarse = None if auto.coarse is None else _known_ids(auto.coarse, spec)
    for path, other in ((auto.prob, prob), (auto.coarse, coarse)):
        if other is not None and other.shape != ids.shape:
            sizes = size_text(*other.shape), size_text(*ids.shape)
            raise DataError(f"{path} is {sizes[0]}, but {item.label} is {sizes[1]}")
    return autolabel.train_ids(ids, prob, coarse, spec, auto)


def _known_ids(path: Path, spec: DatasetSpec | None) -> Picture:
    """A one-channel image of 0..255; with `spec`, of ids that it knows."""
    values = read_ids(path, spec)
    if spec is not None and map_ids(values, spec) is None:
        raise DataError(unknown_ids_text(path, values, spec))
    if values.dtype != np.uint8:
        raise DataError(f"{path}: values 0..255 of 8 bits wanted, got {values.max(initial=0)}")
    return np.asarray(values, np.uint8)


def map_ids(ids: Ids, spec: DatasetSpec) -> Picture | None:
    """Raw ids as train ids, uint8; None when one of them is unknown."""
    if ids.dtype != np.uint8:
        return _map_wide(np.asarray(ids, np.int64), spec)
    lut = spec.lut()
    unknown = lut == UNKNOWN
    if not unknown.any():
        return np.asarray(cv2.LUT(ids, lut.astype(np.uint8)), np.uint8)
    # At most 255 ids are known, so a value is left that no class has; it marks all others.
    spare = int(np.bincount(lut[~unknown], minlength=NUM_RAW_IDS).argmin())
    mapped = np.asarray(cv2.LUT(ids, np.where(unknown, spare, lut).astype(np.uint8)), np.uint8)
    return None if (mapped == spare).any() else mapped


def _map_wide(ids: npt.NDArray[np.int64], spec: DatasetSpec) -> Picture | None:
    """The same for ids of any range."""
    known = np.array(sorted(spec.id_to_train_id), np.int64)
    train_ids = np.array([spec.id_to_train_id[raw] for raw in known.tolist()], np.int16)
    low, high = int(known[0]), int(known[-1])
    if ids.size and (ids.min() < low or ids.max() > high):
        return None
    if high - low < MAX_TABLE:
        table = np.full(high - low + 1, UNKNOWN, np.int16)
        table[known - low] = train_ids
        mapped = table[ids - low]
    else:
        place = np.searchsorted(known, ids)
        mapped = np.where(known[place] == ids, train_ids[place], np.int16(UNKNOWN))
    return None if (mapped == UNKNOWN).any() else mapped.astype(np.uint8)


def ids_in_use(ids: Ids) -> npt.NDArray[np.bool_]:
    """Which of the values 0..255 occur, (256,) bool; others are ignored."""
    if ids.dtype != np.uint8:
        ids = ids[(ids >= 0) & (ids < NUM_RAW_IDS)].astype(np.uint8)
    counts = cv2.calcHist([ids], [0], None, [NUM_RAW_IDS], [0, NUM_RAW_IDS])
    return np.asarray(counts).ravel() > 0


def unknown_ids(ids: Ids, spec: DatasetSpec) -> dict[int, int]:
    """Pixel counts of the raw ids that `spec` does not know."""
    values, counts = np.unique(ids, return_counts=True)
    found = zip(values.tolist(), counts.tolist(), strict=True)
    return {value: count for value, count in found if value not in spec.id_to_train_id}


def unknown_ids_text(path: Path, ids: Ids, spec: DatasetSpec) -> str:
    """The one line about ids outside the map of `spec`."""
    found = [(str(value), count) for value, count in unknown_ids(ids, spec).items()]
    text = f"{path}: label {_listed('id', found)} not in the classes of {spec.name}"
    if is_binary(ids):
        text += "; the file holds only 0 and 255, a binary mask: store class ids, or map 255"
    return text


def is_binary(ids: Ids) -> bool:
    """Whether a label holds exactly the values 0 and 255: a mask exported for viewing."""
    return bool(ids.max(initial=0) == 255) and bool(((ids == 0) | (ids == 255)).all())


def low_bits(path: Path, spec: DatasetSpec) -> int:
    """1, 2 or 4 for a grey label with that many bits per pixel, else 0; from its header.

    Files of colours give 0: black and white stay what they are, however they are stored.
    """
    if spec.color_to_id is not None:
        return 0
    header = read_header(path, "label")
    return header.bits if header.is_low_grey else 0


@dataclass(kw_only=True)
class Depths:
    """How many labels of a set are grey of few bits, see `low_bits`, and how many are not.

    low_label, bits: the first of them; full_label: the first other one.
    """

    low: int = 0
    full: int = 0
    bits: int = 0
    low_label: str = ""
    full_label: str = ""

    @classmethod
    def of(cls, label: Path, bits: int) -> Depths:
        """The depth of one label."""
        if bits:
            return cls(low=1, bits=bits, low_label=str(label))
        return cls(full=1, full_label=str(label))

    def add(self, other: Depths) -> None:
        """Add the depths of the following labels."""
        if not self.low:
            self.bits, self.low_label = other.bits, other.low_label
        self.full_label = self.full_label or other.full_label
        self.low += other.low
        self.full += other.full

    def mixed_text(self) -> str:
        """Why the labels cannot belong together, or an empty text."""
        if not self.low or not self.full:
            return ""
        return (
            f"{self.low_label}: label is grey of {self.bits} bits, like {self.low} of "
            f"{self.low + self.full} labels, others are not ({self.full_label}); PNG optimisers "
            "rescale values when they save bits, so that 255 becomes 1: store all with 8 bits"
        )
