# SPDX-License-Identifier: Apache-2.0
"""Reading pictures and labels, the same for every data set.

Whatever is wrong with a file is a `DataError`: one line that names the file and what to do.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch.utils.data import Dataset

from config import UserError
from datasets import autolabel
from datasets.samplers import Draw
from datasets.spec import NUM_RAW_IDS, UNKNOWN, DatasetSpec, Item
from transforms.sample import Sample, Transform

Picture = npt.NDArray[np.uint8]
ExtraMaps = Callable[[Item, Picture], dict[str, np.ndarray]]

# What Pillow raises for broken files, depending on the format and on where they break.
BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
ID_MODES = {"L", "P", "1", "I", "I;16", "I;16B", "I;16L", "I;16N"}
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
TURNED = cv2.IMREAD_COLOR  # OpenCV looks at EXIF, unless told otherwise
AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
JPEG_START, JPEG_END, JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda"
# What follows a byte 255 in the last scan of a JPEG: stuffing, fill, restarts, the end.
SCAN_MARKERS = np.isin(np.arange(256), [0x00, 0xFF, *range(0xD0, 0xD8), JPEG_END[1]])


class DataError(UserError):
    """A file of a data set is missing, broken or does not fit; the message names it."""


def size_text(height: int, width: int) -> str:
    """A size as people write it: width x height."""
    return f"{width}x{height}"


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{path}: {what} can not be read: {reason}") from error


def read_image(path: Path, *, turned: bool = True) -> Picture:
    """A picture as uint8 (H, W, 3) RGB.

    `turned` as its EXIF orientation says, else as stored; grey is repeated, 16 bit scaled to 8, the
    colours under an alpha channel are kept and the channel dropped, of an animation the first frame
    is taken.
    Raises DataError for a missing, truncated or unreadable file.
    """
    data = _read_bytes(path, "image")
    if _is_whole(data):
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), TURNED if turned else AS_STORED)
        if decoded is not None:
            cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB, dst=decoded)
            return np.asarray(decoded, np.uint8)
    try:
        return _decode_with_pillow(data, turned)
    except BROKEN as error:
        raise DataError(f"{path}: image can not be read: {_reason(error, data)}") from error


def _is_whole(data: bytes) -> bool:
    """Whether `data` is a JPEG or PNG with its end, and has no marker inside the last JPEG scan.

    OpenCV fills up what is truncated or broken in silence; Pillow decides about all others.
    """
    if data.startswith(PNG_START):
        return PNG_END in data[-64:]
    if not data.startswith(JPEG_START) or JPEG_END not in data[-64:]:
        return False
    scan = np.frombuffer(data, np.uint8)[data.rfind(JPEG_SCAN) + len(JPEG_SCAN) :]
    return bool(SCAN_MARKERS[scan[1:][scan[:-1] == 0xFF]].all())


def _decode_with_pillow(data: bytes, turned: bool) -> Picture:
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        decoded = ImageOps.exif_transpose(picture) if turned else picture.copy()
    if decoded.mode.startswith("I"):
        values = np.asarray(decoded).astype(np.int64)
        is_deep = values.max(initial=0) > 255
        grey = np.clip(values >> 8 if is_deep else values, 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(decoded.convert("RGB"), np.uint8).copy()


def _reason(error: BaseException, data: bytes) -> str:
    if not data:
        return "the file is empty"
    text = " ".join(str(error).split()) or type(error).__name__
    return "no known image format" if "cannot identify" in text else text


def read_ids(path: Path, spec: DatasetSpec | None = None) -> npt.NDArray[np.int64] | Picture:
    """The raw ids of a label file, (H, W) uint8 or wider; palette files give their indices.

    With a `spec` whose labels hold colours, the ids of these colours.
    Raises DataError for a missing or broken file, and for one with colours instead of ids.
    """
    data = _read_bytes(path, "label")
    if spec is not None and spec.color_to_id is not None:
        return _ids_of_colors(path, data, spec)
    try:
        with Image.open(io.BytesIO(data)) as picture:
            mode = picture.mode
            ids = np.asarray(picture) if mode in ID_MODES else None
    except BROKEN as error:
        raise DataError(f"{path}: label can not be read: {_reason(error, data)}") from error
    if ids is None:
        raise DataError(
            f"{path}: label is a picture with colours (mode {mode}), not class ids in one channel; "
            "convert the colours to ids first"
        )
    if ids.dtype == np.bool_:
        return ids.astype(np.uint8)
    return ids if ids.dtype == np.uint8 else ids.astype(np.int64)


def _ids_of_colors(path: Path, data: bytes, spec: DatasetSpec) -> Picture:
    """Each pixel's colour looked up in `spec.color_to_id`."""
    assert spec.color_to_id is not None
    try:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"), np.int32)
    except BROKEN as error:
        raise DataError(f"{path}: label can not be read: {_reason(error, data)}") from error
    packed = (pixels[..., 0] << 16) | (pixels[..., 1] << 8) | pixels[..., 2]
    known = sorted(((r << 16) | (g << 8) | b, raw) for (r, g, b), raw in spec.color_to_id.items())
    codes = np.array([code for code, _ in known], np.int32)
    ids = np.array([raw for _, raw in known], np.uint8)
    place = np.searchsorted(codes, packed).clip(max=len(codes) - 1)
    return np.where(codes[place] == packed, ids[place], np.uint8(spec.ignore_label))


def label_size(path: Path) -> tuple[int, int]:
    """(H, W) of a label file from its header alone; DataError when there is none."""
    return _header_size(path, "label")


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture from its header alone, turned as EXIF says."""
    return _header_size(path, "image")


def _header_size(path: Path, what: str) -> tuple[int, int]:
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            orientation = picture.getexif().get(0x0112, 1) if what == "image" else 1
    except BROKEN as error:
        raise DataError(f"{path}: {what} can not be read: {_reason(error, b'?')}") from error
    return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def read_label(path: Path, spec: DatasetSpec) -> Picture:
    """A label as uint8 (H, W) train ids.

    Raises DataError for a file that can not be read, and for ids that `spec` does not know,
    naming the file, each id and its number of pixels.
    """
    ids = read_ids(path, spec)
    mapped = map_ids(ids, spec)
    if mapped is None:
        raise DataError(unknown_ids_text(path, ids, spec))
    return mapped


def read_item_label(item: Item, spec: DatasetSpec) -> Picture:
    """The label of `item` as uint8 (H, W) train ids; for auto labels, after their rules.

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
    """A one-channel picture of 0..255; with `spec`, of ids that it knows."""
    values = read_ids(path, spec)
    if spec is not None and map_ids(values, spec) is None:
        raise DataError(unknown_ids_text(path, values, spec))
    if values.dtype != np.uint8:
        raise DataError(f"{path}: values 0..255 of 8 bit wanted, got {values.max(initial=0)}")
    return np.asarray(values, np.uint8)


def map_ids(ids: npt.NDArray[np.int64] | Picture, spec: DatasetSpec) -> Picture | None:
    """Raw ids as train ids, uint8; None when one of them is unknown."""
    lut = spec.lut()
    if ids.dtype != np.uint8:
        if ids.size and (ids.min() < 0 or ids.max() >= len(lut)):
            return None
        ids = ids.astype(np.uint8)
    if (lut == UNKNOWN).any() and (lut[ids_in_use(ids)] == UNKNOWN).any():
        return None
    return np.asarray(cv2.LUT(ids, lut.clip(0).astype(np.uint8)), np.uint8)


def ids_in_use(ids: npt.NDArray[np.int64] | Picture) -> npt.NDArray[np.bool_]:
    """Which of the values 0..255 occur, (256,) bool; others are not looked at."""
    if ids.dtype != np.uint8:
        ids = ids[(ids >= 0) & (ids < NUM_RAW_IDS)].astype(np.uint8)
    counts = cv2.calcHist([ids], [0], None, [NUM_RAW_IDS], [0, NUM_RAW_IDS])
    return np.asarray(counts).ravel() > 0


def unknown_ids(ids: npt.NDArray[np.int64] | Picture, spec: DatasetSpec) -> dict[int, int]:
    """Pixel counts of the raw ids that `spec` does not know."""
    values, counts = np.unique(ids, return_counts=True)
    found = zip(values.tolist(), counts.tolist(), strict=True)
    return {value: count for value, count in found if value not in spec.id_to_train_id}


def unknown_ids_text(path: Path, ids: npt.NDArray[np.int64] | Picture, spec: DatasetSpec) -> str:
    """The one line about ids outside the map of `spec`."""
    counts = unknown_ids(ids, spec)
    listed = [f"{value} ({count} pixels)" for value, count in list(counts.items())[:5]]
    more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
    plural = "s" if len(counts) > 1 else ""
    text = f"{path}: label id{plural} {', '.join(listed)}{more} not in the classes of {spec.name}"
    if is_binary(ids):
        text += "; the file holds only 0 and 255, a binary mask: store class ids, or map 255"
    return text


def is_binary(ids: npt.NDArray[np.int64] | Picture) -> bool:
    """Whether a label holds exactly the values 0 and 255: a mask exported for viewing."""
    return bool(ids.max(initial=0) == 255) and bool(((ids == 0) | (ids == 255)).all())


class SegmentationDataset(Dataset[Sample]):
    """Items read and transformed.

    transform: applied with the generator of the `Draw`, with a fixed one for a plain index.
    check_labels: False leaves labels unread (predictions without scores).
    extra_maps: makes more maps of the size of the label, for `Sample.extras`.
    """

    def __init__(
        self,
        items: Sequence[Item],
        spec: DatasetSpec,
        transform: Transform | None = None,
        check_labels: bool = True,
        extra_maps: ExtraMaps | None = None,
    ) -> None:
        self.items, self.spec = list(items), spec
        self.transform, self.check_labels = transform, check_labels
        self.extra_maps = extra_maps

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int, centroid: tuple[int, int] | None = None) -> Sample:
        """One item before any transform; DataError when its files do not fit."""
        item = self.items[index]
        image = read_image(item.image)
        label = None
        if item.label is not None and self.check_labels:
            label = read_item_label(item, self.spec)
            if label.shape != image.shape[:2]:
                raise DataError(mismatch_text(item, image.shape[:2], label.shape[:2]))
        extras = {}
        if self.extra_maps is not None and label is not None:
            extras = self.extra_maps(item, label)
        return Sample(image=image, label=label, name=item.name, centroid=centroid, extras=extras)

    def __getitem__(self, draw: int | Draw) -> Sample:
        """The transformed sample, a pure function of `draw` and the files."""
        if isinstance(draw, Draw):
            sample, rng = self.read(draw.index, draw.centroid), draw.generator()
        else:
            sample, rng = self.read(draw), np.random.default_rng(draw)
        return sample if self.transform is None else self.transform(sample, rng)


def mismatch_text(item: Item, image: tuple[int, ...], label: tuple[int, ...]) -> str:
    """The one line about a label of another size; sizes are (H, W)."""
    return (
        f"{item.image} is {size_text(image[0], image[1])}, but its label {item.label} is "
        f"{size_text(label[0], label[1])} (width x height)"
    )
