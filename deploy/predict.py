#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Class ids of images by an exported network, without PyTorch.

    python predict.py IMAGES... --out OUT              # beside model.json, as in every export
    python predict.py DIR IMAGES... --out OUT --raw_ids

IMAGES are files and folders with all below them. OUT gets a PNG of ids for each: numbers of
classes in model.json, with `--raw_ids` those of label files of the data set. Needs nothing but
Python 3.9 and `pip install numpy opencv-python-headless onnxruntime`. From Python:

    ids = ExportedModel("DIR").run(read_rgb("street.jpg"))  # (H, W), or scores (K, H, W)

Exit code 2 if the input is wrong, 3 if some images failed; all others are done by then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

FORMAT, VERSION, MODEL_JSON = "hiseg-export", 1, "model.json"
# eval.py reads some further kinds of files; here they are listed, and refused one by one.
ENDINGS = "avif bmp dib gif jfif jp2 jpe jpeg jpg pbm pgm png pnm ppm tga tif tiff webp"
IMAGE_ENDINGS = tuple(f".{ending}" for ending in ENDINGS.split())
STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"RIFF")  # of those that are read
JPEG, JPEG_END, JPEG_SCAN, PNG = b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\x89PNG\r\n\x1a\n"
STANDALONE = (0x01, *range(0xD0, 0xD9))  # JPEG markers without a length
# What follows a byte 255 in the last scan of a JPEG: stuffing, fill, restarts, the end.
SCAN_MARKERS = np.isin(np.arange(256), [0x00, 0xFF, *range(0xD0, 0xD8), JPEG_END[1]])
EXIF, ORIENTATION, XMP_START = b"Exif\0\0", 274, b"http://ns.adobe.com/xap/1.0/\0"
XMP_KEYWORD, PROFILE_KEYWORD = b"XML:com.adobe.xmp", b"Raw profile type exif"
XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
MAX_TEXT = 1 << 20  # bytes of an unpacked text chunk that are read
AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
AXES = {"ids": 3, "scores": 4}  # of what a graph gives
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
Array = npt.NDArray[Any]


class ModelError(ValueError):
    """An export that cannot be used, or an image that it does not take: one line."""


class ImageError(ValueError):
    """A file that cannot be read as an image: one line that names it."""


class ExportedModel:
    """The network in `folder`, as deploy.export wrote it.

    `spec` is the content of model.json. threads: of ONNX Runtime, 0 for all cores. ModelError for
    a folder without an export, of another version, or with a damaged file.
    """

    def __init__(self, folder: str | os.PathLike[str], *, threads: int = 0) -> None:
        self.folder = Path(folder)
        self.spec = read_spec(self.folder)
        path = self.folder / self.spec["file"]
        if self.spec["kind"] != "onnx":
            told = f"{path} is a program of PyTorch ({self.spec['kind']})"
            hint = "torch.export.load reads it; for ONNX Runtime export again with --format onnx"
            raise ModelError(f"{told}: {hint}")
        if not path.is_file():
            raise ModelError(f"{path} is missing")
        wanted = self.spec.get("file_sha256")
        if wanted and hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise ModelError(f"{path} is damaged: its SHA-256 is not the one in {MODEL_JSON}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        there = [each for each in PROVIDERS if each in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=there)
        except Exception as error:  # ONNX Runtime has no class of its own for all of them
            raise ModelError(f"{path} cannot be loaded: {_line(error)}") from error
        one, axes = self.spec["input"]["name"], len(self.session.get_outputs()[0].shape)
        if self.session.get_inputs()[0].name != one or axes != AXES[self.spec["output"]]:
            raise ModelError(f"{path} is not the graph that {MODEL_JSON} describes")

    def check_size(self, height: int, width: int) -> None:
        """Raise ModelError for images of a size that the graph does not take."""
        wanted, given = self.spec.get("size"), f"an image of {width}x{height} pixels"
        if wanted is not None:
            if [height, width] == wanted:
                return
            raise ModelError(
                f"{given}: this export takes {wanted[1]}x{wanted[0]} alone (width x height); "
                "resize it (predict.py --resize), or export with --dynamic"
            )
        low, step = self.spec["smallest"], self.spec["multiple"]
        if height < low[0] or width < low[1]:
            raise ModelError(f"{given}: this export takes {low[1]}x{low[0]} and more")
        if height % step or width % step:
            raise ModelError(f"{given}: this export takes sides that are multiples of {step}")

    def run(self, image: Array) -> Array:
        """(H, W, 3) uint8 RGB -> ids (H, W), of a graph of scores (K, H, W) float32; ModelError."""
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            got = f"got {image.shape}, {image.dtype}"
            raise ModelError(f"an image of shape (H, W, 3) and type uint8 wanted, RGB; {got}")
        self.check_size(image.shape[0], image.shape[1])
        feed = {self.spec["input"]["name"]: np.ascontiguousarray(image)[None]}
        try:
            return np.asarray(self.session.run(None, feed)[0][0])
        except Exception as error:
            raise ModelError(f"{self.folder}: ONNX Runtime failed: {_line(error)}") from error

    def ids(self, image: Array) -> Array:
        """Class ids (H, W), whatever the graph gives."""
        found = self.run(image)
        if self.spec["output"] == "scores":
            found = found.argmax(0).astype(np.uint8 if len(found) <= 256 else np.uint16)
        if found.max() >= len(self.spec["classes"]):
            raise ModelError(f"{self.folder}: the graph has more classes than {MODEL_JSON}")
        return found


def read_spec(folder: Path) -> dict[str, Any]:
    """The content of model.json; ModelError unless this version wrote it."""
    path = folder / MODEL_JSON
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}: {folder} is no export") from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {_line(error)}") from error
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise ModelError(f"{path} is not of an export: format {FORMAT!r} wanted")
    if spec.get("version") != VERSION:
        told = f"{path} has version {spec.get('version')!r}, and {VERSION} is read here"
        raise ModelError(f"{told}: export again, or use the predict.py that lies in the folder")
    for name, is_right in ENTRIES.items():
        if not is_right(spec.get(name)):
            raise ModelError(f"{path} is damaged: entry {name} is {_line(repr(spec.get(name)))}")
    if len(spec["ids"]) != len(spec["classes"]):
        raise ModelError(f"{path} is damaged: its classes and ids are not equally many")
    return {"size": None, **spec}


def _numbers(entry: Any, low: int, count: int = 0) -> bool:
    """Whether `entry` is a list of `count` integers (0: of some) from `low` to 65535."""
    fits = isinstance(entry, list) and len(entry) == (count or len(entry))
    return fits and all(isinstance(each, int) and low <= each < 1 << 16 for each in entry)


ENTRIES: dict[str, Callable[[Any], bool]] = {  # of model.json that are read here
    **dict.fromkeys(("file", "kind"), lambda it: isinstance(it, str)),
    "ids": lambda it: _numbers(it, 0),
    "size": lambda it: it is None or _numbers(it, 1, 2),
    "smallest": lambda it: _numbers(it, 1, 2),
    "multiple": lambda it: _numbers([it], 1),
    "classes": lambda it: isinstance(it, list) and len(it) > 0,
    "input": lambda it: isinstance(it, dict) and isinstance(it.get("name"), str),
    "output": lambda it: it in ("ids", "scores"),
}


def _line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def read_rgb(path: str | os.PathLike[str]) -> Array:
    """An image file as uint8 (H, W, 3) RGB, by the rules of `eval.py --eval folder`.

    Turned as EXIF or XMP data say; grey is repeated; alpha is dropped; of 16 bits the upper eight
    are kept. ImageError for a missing, truncated or unreadable file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    if not data.startswith(STARTS):
        raise ImageError(f"{path}: empty, or of a kind not read here; PNG or JPEG is wanted")
    is_deep = data.startswith(PNG) and data[24:25] == b"\x10"  # 16 bits
    flags = cv2.IMREAD_UNCHANGED if is_deep else AS_STORED
    pixels = None
    with suppress(cv2.error):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if _is_whole(data) else None
    if pixels is None:
        raise ImageError(f"{path}: the file is truncated or damaged")
    if pixels.dtype == np.uint16:
        pixels = np.asarray(np.asarray(pixels, np.uint16) >> 8, np.uint8)
    pixels = np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels
    return _turned(pixels[..., 2::-1], orientation_of(data))


def _is_whole(data: bytes) -> bool:
    """False for a JPEG or PNG without its end, or with a marker inside the last JPEG scan.

    OpenCV silently fills in what is truncated or broken.
    """
    if data.startswith(PNG):
        return b"IEND\xaeB`\x82" in data[-64:]
    if not data.startswith(JPEG) or JPEG_END not in data[-64:]:
        return not data.startswith(JPEG)
    scan = np.frombuffer(data, np.uint8)[data.rfind(JPEG_SCAN) + len(JPEG_SCAN) :]
    return bool(SCAN_MARKERS[scan[1:][scan[:-1] == 0xFF]].all())


def _turned(pixels: Array, orientation: int) -> Array:
    """(H, W, 3) as stored -> upright, for an orientation 1..8."""
    if orientation > 4:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)  # those mirrored
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return np.ascontiguousarray(pixels)


def orientation_of(data: bytes) -> int:
    """1..8 as the EXIF data of a JPEG, PNG or WebP say, else the XMP packet, else 1."""
    told: dict[str, int] = {}
    with suppress(struct.error, ValueError, zlib.error):  # broken: as if it said no more
        for kind, content in _told(data):
            match = XMP_ORIENTATION.search(content) if kind == "xmp" else None
            found = int(match[1]) if match else None if kind == "xmp" else _exif(content)
            if found is not None:
                told.setdefault(kind, found)
    found = next((told[kind] for kind in ("exif", "profile", "xmp") if kind in told), 1)
    return found if 1 <= found <= 8 else 1


def _told(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What a file says besides its pixels: "exif", "profile" (EXIF in a text) or "xmp"."""
    if data.startswith(PNG):
        yield from _png_parts(data)
    elif data.startswith(JPEG):
        yield from _jpeg_parts(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = 12
        while at + 8 <= len(data):
            kind, length = struct.unpack_from("<4sI", data, at)
            if kind in (b"EXIF", b"XMP "):
                yield kind.decode().strip().lower(), data[at + 8 : at + 8 + length]
            at += 8 + length + length % 2


def _jpeg_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != JPEG_SCAN[1]:
        if data[at + 1] == 0xFF or data[at + 1] in STANDALONE:
            at += 1 if data[at + 1] == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        content = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xE1 and content.startswith((EXIF, XMP_START)):
            yield "exif" if content.startswith(EXIF) else "xmp", content
        at += 2 + length


def _png_parts(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        keyword, _, rest = content.partition(b"\0")
        if kind == b"eXIf":
            yield "exif", content
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and keyword == XMP_KEYWORD:
            yield "xmp", _text(kind, rest)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and keyword == PROFILE_KEYWORD:
            lines = _text(kind, rest).split(b"\n")  # name, length, hexadecimal lines
            yield "profile", bytes.fromhex(b"".join(lines[3:]).decode("ascii", "replace"))
        at += 12 + length


def _text(kind: bytes, rest: bytes) -> bytes:
    """What follows the keyword of a text chunk, unpacked."""
    is_packed = kind == b"zTXt" or (kind == b"iTXt" and rest[:1] == b"\1")
    starts = {b"tEXt": rest, b"zTXt": rest[1:], b"iTXt": rest[2:].split(b"\0", 2)[-1]}
    return zlib.decompressobj().decompress(starts[kind], MAX_TEXT) if is_packed else starts[kind]


def _exif(content: bytes) -> int | None:
    """The orientation that EXIF data name, which are a TIFF without pixels."""
    content = content.removeprefix(EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return None
    with suppress(struct.error):
        (start,) = struct.unpack_from(f"{order}L", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}HHL", content, entry) == (ORIENTATION, 3, 1):
                return int(struct.unpack_from(f"{order}H", content, entry + 8)[0])
    return None


def found_images(places: list[str], out: Path) -> dict[str, Path]:
    """Name of each output -> image: of a folder all below it but `out`; ImageError if two clash."""
    found: dict[str, Path] = {}
    for place in map(Path, places):
        if place.is_dir():
            below = sorted(path for path in place.rglob("*") if not path.is_dir())  # dead links too
            if place.resolve() in out.parents:  # ids of an earlier call
                below = [path for path in below if out not in path.resolve().parents]
            files = [path for path in below if path.suffix.lower() in IMAGE_ENDINGS]
            named = [(path.relative_to(place).with_suffix(""), path) for path in files]
        elif place.is_file():
            named = [(Path(place.stem), place)]
        else:
            raise ImageError(f"{place}: no such file or folder")
        for name, path in named:
            if str(name) in found:
                raise ImageError(f"{path} and {found[str(name)]} would both give {name}.png")
            found[str(name)] = path
    if not found:
        raise ImageError(f"no images in {', '.join(places) or 'the call'}")
    return found


def write_png(path: Path, ids: Array) -> None:
    """A grey PNG, 8 or 16 bits, under its name once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(cv2.imencode(".png", ids)[1].tobytes())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def predict(model: ExportedModel, path: Path, resize: bool) -> Array:
    """Ids (H, W) of an image file; with `resize` it takes the size of the graph on the way."""
    image = read_rgb(path)
    size, wanted = image.shape[:2], model.spec["size"]
    if not resize or wanted in (None, list(size)):
        return model.ids(image)
    ids = model.ids(cv2.resize(image, wanted[::-1], interpolation=cv2.INTER_AREA))
    return np.asarray(cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def command_line() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("places", nargs="+", metavar="[DIR] IMAGES", help="an export, images, folders of images")
    add("--out", required=True, help="folder to write to")
    add("--raw_ids", action="store_true", help="ids as the label files of the data set have them")
    add("--resize", action="store_true", help="bring images to the one size of a graph, ids back")
    add("--overwrite", action="store_true", help="replace files of an earlier call")
    cores = range((os.cpu_count() or 1) + 1)
    add("--threads", type=int, default=0, choices=cores, metavar="N", help="0: all cores")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict; the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a file name may be anything
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    own = command_line().parse_args(argv)
    here, places, failed = Path(__file__).resolve().parent, own.places, 0
    if (Path(places[0]) / MODEL_JSON).is_file() or not (here / MODEL_JSON).is_file():
        here, places = Path(places[0]), places[1:]
    try:
        model, images = (
            ExportedModel(here, threads=own.threads),
            found_images(places, Path(own.out).resolve()),
        )
        inputs = {path.resolve() for path in images.values()}
        for target in (Path(own.out, f"{name}.png") for name in images):
            if target.resolve() in inputs or (target.exists() and not own.overwrite):
                raise ImageError(f"{target} exists; --overwrite replaces it unless it is an input")
        os.makedirs(own.out, exist_ok=True)
    except (ValueError, OSError) as error:
        print(_line(f"error: {error}"), file=sys.stderr)
        return 2
    raw = np.array(model.spec["ids"] if own.raw_ids else range(len(model.spec["classes"])))
    raw = raw.astype(np.uint8 if raw.max() < 256 else np.uint16)
    for number, (name, path) in enumerate(images.items(), 1):
        try:
            write_png(Path(own.out, f"{name}.png"), raw[predict(model, path, own.resize)])
            print(_line(f"{number}/{len(images)} {path}"), flush=True)
        except (ValueError, OSError, cv2.error) as error:
            failed, what = 3, error if isinstance(error, ImageError) else f"{path}: {error}"
            print(_line(f"failed: {what}"), file=sys.stderr, flush=True)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
