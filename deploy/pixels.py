# SPDX-License-Identifier: Apache-2.0
"""Images as notebooks hold them, as the pixels that networks take; torch is not loaded here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from assembly.answer import Picture
from datasets.decode import read_image
from datasets.headers import BROKEN, reason
from runtime.errors import UserError

Source = Any  # a path, an array, a PIL image or a torch tensor
WANTED = "uint8 (H, W, 3) RGB wanted"
SHALLOW = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")


def as_picture(source: Source) -> Picture:
    """`source` as uint8 (H, W, 3) RGB, of its own memory.

    A path is decoded as `eval.py` does: turned as EXIF says, alpha dropped, grey repeated, of 16
    bits the upper eight. So is a PIL image. An array is (H, W, 3), (H, W, 4) with alpha that is
    dropped, or grey (H, W); a tensor is (3, H, W) as of torchvision, or (H, W, 3). UserError, one
    line, for anything else: floating point, for instance, has no agreed range.
    """
    if isinstance(source, str | os.PathLike):
        return read_image(Path(source))
    if isinstance(source, Image.Image):
        return _of_pil(source)
    if isinstance(source, np.ndarray):
        return _of_array(source, "the array")
    if type(source).__module__.partition(".")[0] == "torch" and hasattr(source, "detach"):
        return _of_tensor(source)
    raise UserError(
        f"an image is a path, a NumPy array, a PIL image or a torch tensor, not a "
        f"{type(source).__name__}"
    )


def name_of(source: Source, number: int) -> str:
    """What messages call an image: its file, if it has one, else its number from 1."""
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    return str(getattr(source, "filename", "")) or f"image {number}"


def _of_pil(image: Image.Image) -> Picture:
    """The pixels of a PIL image, as the same file would be read."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return _repeated((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        if image.mode not in SHALLOW:
            raise UserError(
                f"a PIL image of mode {image.mode} has no agreed black and white; {WANTED}"
            )
        return np.array(image.convert("RGB"), np.uint8)
    except UserError:
        raise
    except BROKEN as error:  # Pillow decodes only now
        name = getattr(image, "filename", "") or "the PIL image"
        raise UserError(f"{name}: image cannot be read: {reason(error, b'?')}") from error


def _of_array(array: npt.NDArray[Any], what: str) -> Picture:
    if array.dtype != np.uint8:
        is_float = array.dtype.kind == "f"
        hint = "; if it holds 0..1, (255 * x).round().astype('uint8')" if is_float else ""
        raise UserError(f"{what} is {array.dtype} {_shape(array)}, {WANTED}{hint}")
    if array.size == 0:
        raise UserError(f"{what} has no pixels: {_shape(array)}, {WANTED}")
    if array.ndim == 2:
        return _repeated(array)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        return np.array(array[:, :, :3], order="C")
    if array.ndim == 3 and array.shape[2] == 1:
        return _repeated(array[:, :, 0])
    hint = "; x.transpose(1, 2, 0) moves the colours last" if array.shape[0] in (1, 3, 4) else ""
    raise UserError(f"{what} is {_shape(array)}, {WANTED}{hint if array.ndim == 3 else ''}")


def _of_tensor(tensor: Any) -> Picture:
    """A tensor on any device; channels first where the first axis has three entries."""
    if str(tensor.dtype) != "torch.uint8":
        raise UserError(f"the tensor is {tensor.dtype} {_shape(tensor)}, {WANTED}")
    array = tensor.detach().cpu().numpy()
    if array.ndim == 3 and array.shape[0] == 3:
        array = array.transpose(1, 2, 0)
    return _of_array(array, "the tensor")


def at_size(picture: Picture, size: tuple[int, int]) -> Picture:
    """`picture` at `size` (H, W), averaged over the area of its pixels where it shrinks."""
    if picture.shape[:2] == size:
        return picture
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def _repeated(grey: npt.NDArray[np.uint8]) -> Picture:
    return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))


def _shape(array: Any) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ")"
